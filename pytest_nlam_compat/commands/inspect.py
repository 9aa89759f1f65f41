"""``nlam-compat inspect``: what a checkpoint file is, without loading it."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

NAME = "inspect"
HELP = (
    "Tell which release wrote a checkpoint, and what is in it; or how two "
    "differ. Nothing in the file is run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path, nargs="+")
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all tensors too, and check them by their checksums",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a report on one file, or on the difference of two.

    Parameters
    ----------
    arguments : Namespace
        With ``file``, ``json`` and ``verify``.

    Returns
    -------
    int
        0; for two files that differ too.

    Raises
    ------
    CompatError
        If a file is no checkpoint, or there are more than two.
    """
    import json

    from pytest_nlam_compat.checkpoints.weights import read_run
    from pytest_nlam_compat.migrations.stamps import STAMP
    from pytest_nlam_compat.upgrade.difference import difference
    from pytest_nlam_compat.upgrade.difference import text as difference_text
    from pytest_nlam_compat.upgrade.inspection import report
    from pytest_nlam_compat.upgrade.inspection_text import text

    if len(arguments.file) > 2:
        raise CompatError(
            f"There are {len(arguments.file)} files to inspect.",
            facts={"expected": "one, or two to compare"},
            remedy="Call it once for each.",
        )
    if arguments.verify:
        for file in arguments.file:
            with read_run(file, STAMP) as checkpoint:
                checkpoint.archive.verify()
    with read_run(arguments.file[0], STAMP) as first:
        if len(arguments.file) == 1:
            found = report(first)
            shown = text(found)
        else:
            with read_run(arguments.file[1], STAMP) as second:
                found = difference(first, second)
                shown = difference_text(found)
    print(json.dumps(found, indent=1) if arguments.json else shown)
    return 0
