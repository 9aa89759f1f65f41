"""Record references of the installed neural-lam."""

from __future__ import annotations

import argparse
from pathlib import Path

from packaging.version import Version

from pytest_nlam_compat.commands import CommandResult
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import native_routes, registry
from pytest_nlam_compat.references.release_archive import ReleaseArchive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "release",
        metavar="RELEASE",
        type=Version,
        help="the release to record, such as 0.7.0; it must be installed",
    )
    parser.add_argument(
        "--fixtures",
        metavar="DIR",
        type=Path,
        default=Path("fixtures"),
        help="the folder with registry.txt (default: fixtures)",
    )
    parser.add_argument(
        "--add",
        action="store_true",
        help="add the cases that the archive lacks; only before it is "
        "published for the first time",
    )
    parser.add_argument(
        "--native-routes",
        action="store_true",
        help="record no references, only which ones the release's own loader "
        "loads",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Record cases of a release, and print a line for each."""
    release = arguments.release
    if not (arguments.fixtures / "registry.txt").exists():
        raise CompatError(
            f"{arguments.fixtures} has no registry.txt.",
            remedy="Run this at the top of a clone of pytest-nlam-compat, or "
            "pass its folder with --fixtures.",
        )
    lines = []
    if not arguments.native_routes:
        from pytest_nlam_compat.recording.release_recorder import (
            add_missing_cases,
            record_release,
        )

        print(f"Recording neural-lam {release}", flush=True)
        write = add_missing_cases if arguments.add else record_release
        archive = write(
            release,
            arguments.fixtures,
            lambda line: print(f"  {line}", flush=True),
        )
        lines.append(f"{archive}: {archive.stat().st_size / 1000:,.0f} kB")
    try:
        loads = _record_native_routes(release, arguments.fixtures)
    except KeyboardInterrupt:
        print(
            "The references are kept. List which of them its loader loads:\n"
            f"nlam-compat record {release} --native-routes"
        )
        raise
    return CommandResult(
        {
            "archive": str(arguments.fixtures / registry.archive_name(release)),
            "loaded": [name for name, loaded in loads.items() if loaded],
            "not_loaded": [
                name for name, loaded in loads.items() if not loaded
            ],
        },
        [
            *lines,
            f"{arguments.fixtures / native_routes.FILE_NAME}: its own loader "
            f"loads {sum(loads.values())} of {len(loads)} references",
        ],
    )


def _record_native_routes(release: Version, fixtures: Path) -> dict[str, bool]:
    """Write which references the release loads with its own loader.

    They are returned by their ids.
    """
    from pytest_nlam_compat.judging.native_route import natively_loaded
    from pytest_nlam_compat.recording.release_recorder import installed, quietly

    adapter = installed(release)
    archives = [
        ReleaseArchive(fixtures / registry.archive_name(each))
        for each in registry.read(fixtures / "registry.txt")
        if each <= release
    ]
    with quietly():
        loads = {
            name: not result.problem
            for name, result in natively_loaded(archives, adapter)
        }
    native_routes.replace(
        fixtures / native_routes.FILE_NAME,
        release,
        [name for name, loaded in loads.items() if loaded],
    )
    return loads
