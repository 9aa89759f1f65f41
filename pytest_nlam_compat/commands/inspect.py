"""``nlam-compat inspect``: what a checkpoint file is, without loading it."""

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

AUDIENCE = "forecasters"
HELP = (
    "Show what a checkpoint is, or how two of them differ. The release that "
    "wrote it is detected, and no code in the files is run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path, nargs="+")
    parser.add_argument(
        "--all",
        action="store_true",
        help="list each hyper-parameter, class and tensor",
    )
    add_options(parser, "--migrations", "--json", "--verify")


def run(arguments: argparse.Namespace) -> CommandResult:
    """Return a report on one file, or on the difference of two.

    The exit status is 0 for two files that differ, too.
    """
    from pytest_nlam_compat.migrations.stamps import STAMP
    from pytest_nlam_compat.upgrade.difference import (
        difference,
        difference_lines,
    )
    from pytest_nlam_compat.upgrade.inspection import report
    from pytest_nlam_compat.upgrade.next_steps import next_command
    from pytest_nlam_compat.upgrade.report_text import all_lines, screen_lines
    from pytest_nlam_compat.upgrade.weights import read_run

    own = read_migrations(arguments.migrations)
    if len(arguments.file) > 2:
        raise CompatError(
            "inspect takes one file, or two to compare.",
            facts={"found": f"{len(arguments.file)} files"},
            remedy="Inspect the files one by one.",
        )
    for file in arguments.file:
        if file.is_dir():
            _refuse_folder(file)
    if arguments.verify:
        with progress("Reading all tensors"):
            for file in arguments.file:
                with read_run(file, STAMP) as checkpoint:
                    checkpoint.archive.verify()
    with read_run(arguments.file[0], STAMP) as first:
        if len(arguments.file) == 1:
            found = report(first, own, arguments.migrations)
            found["next"] = next_command(found)
            lines = (all_lines if arguments.all else screen_lines)(found)
        else:
            with read_run(arguments.file[1], STAMP) as second:
                found = difference(first, second)
                lines = difference_lines(found)
    return CommandResult(found, lines)


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
