"""``nlam-compat statistics``: what upgrades need of a dataset, as a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

NAME = "statistics"
HELP = (
    "Write the statistics of a dataset that upgrades of old checkpoints need."
    " This loads the dataset with neural-lam."
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
        help="the file to write: JSON, or safetensors by its ending",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compute the statistics and write them.

    Parameters
    ----------
    arguments : Namespace
        With ``datastore`` and ``output``.

    Returns
    -------
    int
        0: anything else is an error.

    Raises
    ------
    CompatError
        If the datastore can't be loaded, or the file not be written.
    """
    output: Path = arguments.output
    if output.exists():
        raise CompatError(
            f"{output.name} is there already.",
            facts={"file": output},
            remedy="Give another -o, or move it away.",
        )
    from pytest_nlam_compat.upgrade.from_datastore import facts_from_config

    facts = facts_from_config(arguments.datastore)
    try:
        with output.open("xb") as stream:
            stream.write(facts.to_bytes(output.suffix))
    except OSError as error:
        raise CompatError(
            f"{output.name} can't be written.",
            facts={"file": output, "cause": error.strerror or error},
            remedy="Make room or mend the permissions of its folder.",
        ) from error
    nx, ny = facts.grid_shape
    print(
        f"{output}: {len(facts.arrays['state_mean'])} state variables, "
        f"{len(facts.static_names)} static features, {nx} x {ny} grid"
    )
    return 0
