"""``nlam-compat statistics``: write the statistics that upgrades need."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

HELP = (
    "Write the dataset statistics that upgrades of old checkpoints need. This"
    " loads the dataset with neural-lam."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--datastore",
        metavar="CONFIG",
        type=Path,
        required=True,
        help="neural-lam's config.yaml",
    )
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the file to write: JSON, or safetensors if it ends in that",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compute the statistics and write them."""
    from pytest_nlam_compat.upgrade.dataset_facts import facts_from_config
    from pytest_nlam_compat.upgrade.output import refuse_existing

    output: Path = arguments.output
    refuse_existing(output)
    facts = facts_from_config(arguments.datastore)
    try:
        with output.open("xb") as stream:
            stream.write(facts.to_bytes(output.suffix))
    except OSError as error:
        raise CompatError(
            f"{output.name} can't be written.",
            facts={"file": output, "cause": error.strerror or error},
            remedy="Free some space, or fix the permissions of its folder.",
        ) from error
    nx, ny = facts.grid_shape
    print(
        f"{output}: {len(facts.arrays['state_mean'])} state variables, "
        f"{len(facts.static_names)} static features, {nx} x {ny} grid"
    )
    return 0
