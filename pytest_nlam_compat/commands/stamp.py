"""Write into a checkpoint what it was trained with.

These are its release, graph and dataset. New checkpoints get this from
ProvenanceStamp.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import (
    CommandResult,
    add_options,
    add_rewrite_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path)
    add_rewrite_options(parser, "FILE", "stamped_", required=True)
    add_options(parser, "--graph")


def run(arguments: argparse.Namespace) -> CommandResult:
    """Stamp a file; after an error it is unchanged."""
    from pytest_nlam_compat.upgrade.dataset_facts import load_facts
    from pytest_nlam_compat.upgrade.output import OutputFile
    from pytest_nlam_compat.upgrade.stamping import PREFIX, stamp_file

    output = OutputFile(
        arguments.file, arguments.output, PREFIX, arguments.in_place
    )
    output.refuse_existing()
    facts = load_facts(arguments.statistics, arguments.datastore)
    assert facts is not None, "one of the two is required"
    stamp = stamp_file(
        output,
        origin=arguments.origin,
        graph=arguments.graph,
        facts=facts,
        allowed=tuple(arguments.allow),
    )
    graph = stamp["graph"]
    return CommandResult(
        {"output": str(output.path), "stamp": stamp},
        [
            f"{output.path}: neural-lam {stamp['neural_lam']['version']}, "
            + (f"graph {graph['name']}" if graph else "without a graph")
        ],
    )
