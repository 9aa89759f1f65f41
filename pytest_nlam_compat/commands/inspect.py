"""``nlam-compat inspect``: what a checkpoint file is, without loading it."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import add_options
from pytest_nlam_compat.errors import CompatError

HELP = (
    "Show which release wrote a checkpoint and what it contains, or how two "
    "checkpoints differ. No code in the files is run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path, nargs="+")
    add_options(parser, "--json", "--verify")


def run(arguments: argparse.Namespace) -> int:
    """Print a report on one file, or on the difference of two.

    The exit status is 0 for two files that differ, too.
    """
    import json

    from pytest_nlam_compat.migrations.stamps import STAMP
    from pytest_nlam_compat.upgrade.difference import (
        difference,
        difference_lines,
    )
    from pytest_nlam_compat.upgrade.inspection import report, report_lines
    from pytest_nlam_compat.upgrade.weights import read_run

    if len(arguments.file) > 2:
        raise CompatError(
            "inspect takes one file, or two to compare.",
            facts={"found": f"{len(arguments.file)} files"},
            remedy="Inspect the files one by one.",
        )
    if arguments.verify:
        for file in arguments.file:
            with read_run(file, STAMP) as checkpoint:
                checkpoint.archive.verify()
    with read_run(arguments.file[0], STAMP) as first:
        if len(arguments.file) == 1:
            found = report(first)
            lines = report_lines(found)
        else:
            with read_run(arguments.file[1], STAMP) as second:
                found = difference(first, second)
                lines = difference_lines(found)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(lines))
    return 0
