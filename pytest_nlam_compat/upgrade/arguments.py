"""Arguments for what a checkpoint can't be understood without."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_origin(
    parser: argparse.ArgumentParser, *, dataset_required: bool = False
) -> None:
    """Declare who wrote a checkpoint, and with which graph and dataset.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Gets ``origin``, ``graph``, ``statistics`` and ``datastore``.
    dataset_required : bool
        Whether one of the last two has to be given.
    """
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="R",
        help="the release that wrote it, where it can't be found out",
    )
    parser.add_argument(
        "--graph",
        metavar="DIR",
        type=Path,
        help="the graph directory that it was trained with",
    )
    dataset = parser.add_mutually_exclusive_group(required=dataset_required)
    dataset.add_argument(
        "--statistics",
        metavar="FILE",
        type=Path,
        help="statistics of the dataset that it was trained on, from"
        " nlam-compat statistics",
    )
    dataset.add_argument(
        "--datastore",
        metavar="CONFIG",
        type=Path,
        help="neural-lam's config.yaml of that dataset, to compute them from",
    )
