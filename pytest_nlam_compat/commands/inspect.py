"""Show what a checkpoint is, and what to run next.

The release that wrote it is detected, and no code in the file is run.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from pytest_nlam_compat.commands import (
    CommandResult,
    add_options,
    read_migrations,
)
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.reports.terminal import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path)
    add_options(parser, "--migrations", "--verify")


def run(arguments: argparse.Namespace) -> CommandResult:
    """Return a report on a file."""
    from pytest_nlam_compat.upgrade.inspection import report
    from pytest_nlam_compat.upgrade.next_steps import next_command
    from pytest_nlam_compat.upgrade.report_text import report_lines
    from pytest_nlam_compat.upgrade.weights import read_run

    own = read_migrations(arguments.migrations)
    if arguments.file.is_dir():
        _refuse_folder(arguments.file)
    with read_run(arguments.file) as checkpoint:
        if arguments.verify:
            with progress("Reading all tensors"):
                checkpoint.archive.verify()
        found = report(checkpoint, own, arguments.migrations)
    found["next"] = next_command(found)
    return CommandResult(found, report_lines(found))


def _refuse_folder(folder: Path) -> None:
    """Name the checkpoints in a folder; a distributed one is refused later."""
    files = sorted(file for file in folder.glob("*.ckpt") if file.is_file())
    if files:
        name = folder.resolve().name
        raise CompatError(
            f"{name or folder} is a folder, and inspect takes files.",
            facts={"checkpoints in it": join_some(file.name for file in files)},
            remedy="Inspect one of them, or upgrade all of them:\n"
            f"  nlam-compat inspect {shlex.quote(str(files[0]))}\n"
            f"  nlam-compat upgrade {shlex.quote(str(folder))}",
        )
