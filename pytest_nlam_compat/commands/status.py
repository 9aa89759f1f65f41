"""List the releases that have no references yet."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import CommandResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--clone",
        metavar="DIR",
        type=Path,
        help="look at the tags of a clone of neural-lam instead of at the "
        "package index",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Compare the registry with what exists; 1 if a release is missing."""
    from pytest_nlam_compat.references import registry
    from pytest_nlam_compat.releasing.known_releases import on_index, tagged

    recorded = registry.read(registry.data_folder() / registry.FILE_NAME)
    released = tagged(arguments.clone) if arguments.clone else on_index()
    lacking = [str(each) for each in released if each not in recorded]
    listed = arguments.clone or "the package index"
    lines = [
        f"references of all {len(released)} releases of neural-lam that "
        f"{listed} lists"
    ]
    if lacking:
        lines = [
            f"no references of neural-lam {', '.join(lacking)}",
            "next: add them at the top of a clone of pytest-nlam-compat",
            *(f"  nlam-compat release {release}" for release in lacking),
        ]
    return CommandResult(
        {"recorded": [*map(str, recorded)], "lacking": lacking},
        lines,
        int(bool(lacking)),
    )
