"""The subcommands of ``nlam-compat``: one in a module, and what they share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_origin_arguments(
    parser: argparse.ArgumentParser, *, dataset_required: bool = False
) -> None:
    """Add ``--from``, ``--graph``, ``--statistics`` and ``--datastore``."""
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="R",
        help="the release that wrote it, if that can't be detected",
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
        help="neural-lam's config.yaml of that dataset, to compute the"
        " statistics from",
    )
