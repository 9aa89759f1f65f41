"""Add the references of a new release of neural-lam."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from packaging.version import Version

from pytest_nlam_compat.commands import CommandResult, say
from pytest_nlam_compat.errors import counted, join_some


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "release",
        metavar="RELEASE",
        type=Version,
        help="the new release, such as 0.8.0",
    )
    parser.add_argument(
        "--neural-lam",
        metavar="SPEC",
        help="what pip installs: a requirement, a wheel or a URL (default: "
        "neural-lam==RELEASE; pip's own settings name another index)",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="top of a clone of pytest-nlam-compat (default: this folder)",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Add it, and print how to publish it."""
    from pytest_nlam_compat.releasing.add_release import (
        ReleaseRequest,
        add_release,
    )

    release = arguments.release
    spec = arguments.neural_lam or f"neural-lam=={release}"
    if Path(spec).is_file():
        spec = str(Path(spec).resolve())
    request = ReleaseRequest(release, arguments.root.resolve(), spec)
    found = add_release(request, say)
    lines = [
        f"{counted(found.references, 'reference')} of neural-lam {release}. "
        "Written:",
        *(f"  {file}" for file in found.written),
    ]
    if found.lost:
        lines.append(
            "Its own loader no longer loads what that of the release before "
            f"does: {join_some(found.lost)}"
        )
    lines += [
        "next: publish them, see HOWTORELEASE.md",
        f"  git switch -c references-{release}",
        # With what the release needed, and you have written.
        f"  git add {' '.join(found.written)} pytest_nlam_compat tests",
        f'  git commit -m "Add the references of neural-lam {release}"',
        f"  git push -u origin references-{release}",
    ]
    return CommandResult(asdict(found), lines)
