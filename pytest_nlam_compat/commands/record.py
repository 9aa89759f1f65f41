"""``nlam-compat record``: record the references of a new release."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import release_of
from pytest_nlam_compat.errors import CompatError

HELP = "Record the references of the installed release of neural-lam."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "release",
        metavar="RELEASE",
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


def run(arguments: argparse.Namespace) -> int:
    """Record cases of a release, and print a line for each."""
    release = release_of(arguments.release)
    if not (arguments.fixtures / "registry.txt").exists():
        raise CompatError(
            f"{arguments.fixtures} has no registry.txt.",
            remedy="Run this at the top of a clone of pytest-nlam-compat, or "
            "pass its folder with --fixtures.",
        )
    from pytest_nlam_compat.recording.release import (
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
    print(f"{archive}: {archive.stat().st_size / 1000:,.0f} kB")
    return 0
