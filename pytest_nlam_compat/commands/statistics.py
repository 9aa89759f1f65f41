"""Write the dataset statistics that upgrades need.

Those of checkpoints before 0.4.0 do. This loads the dataset with neural-lam.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import CommandResult, add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_options(parser, "--datastore", required=True)
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the file to write: JSON, or safetensors if it ends in that",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Compute the statistics and write them."""
    from pytest_nlam_compat.files.drafts import draft, refuse_existing
    from pytest_nlam_compat.upgrade.dataset_facts import facts_from_config

    output: Path = arguments.output
    refuse_existing(output)
    facts = facts_from_config(arguments.datastore)
    with draft(output, overwrite=False) as stream:
        stream.write(facts.to_bytes(output.suffix))
    variables = len(facts.arrays["state_mean"])
    nx, ny = facts.grid_shape
    return CommandResult(
        {
            "output": str(output),
            "state_variables": variables,
            "static_features": len(facts.static_names),
            "grid": [nx, ny],
        },
        [
            f"{output}: {variables} state variables, "
            f"{len(facts.static_names)} static features, {nx} x {ny} grid"
        ],
    )
