"""``nlam-compat stamp``: write into a checkpoint what no release writes."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.upgrade.arguments import add_origin

NAME = "stamp"
HELP = (
    "Write into an existing checkpoint which neural-lam wrote it, and with "
    "which graph and dataset. New ones get this from ProvenanceStamp."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument(
        "-o",
        dest="output",
        metavar="NEW",
        type=Path,
        help="the new file (default: stamped_FILE beside the old one)",
    )
    add_origin(parser, dataset_required=True)
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="replace the file, and keep the old one as FILE.bak",
    )
    parser.add_argument(
        "--allow",
        metavar="CLASS",
        action="append",
        default=[],
        help="a class that it may name besides those known",
    )


def run(arguments: argparse.Namespace) -> int:
    """Stamp a file.

    Parameters
    ----------
    arguments : Namespace
        As `add_arguments` declares them.

    Returns
    -------
    int
        0: anything else is an error.

    Raises
    ------
    CompatError
        If it can't be stamped; it is as it was.
    """
    from pytest_nlam_compat.upgrade.dataset_facts import facts_given
    from pytest_nlam_compat.upgrade.output import Output
    from pytest_nlam_compat.upgrade.request import Request
    from pytest_nlam_compat.upgrade.stamping import PREFIX, stamp_file

    Request(origin=arguments.origin)
    with Output(
        arguments.file, arguments.output, PREFIX, arguments.in_place
    ) as output:
        output.refuse_taken()
        facts = facts_given(arguments.statistics, arguments.datastore)
        assert facts is not None
        stamp = stamp_file(
            output,
            origin=arguments.origin,
            graph=arguments.graph,
            facts=facts,
            allowed=tuple(arguments.allow),
        )
    graph = stamp["graph"]
    print(
        f"{output.path}: neural-lam {stamp['neural_lam']['version']}, "
        + (f"graph {graph['name']}" if graph else "no graph given")
    )
    return 0
