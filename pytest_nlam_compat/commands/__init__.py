"""The subcommands of ``nlam-compat``: one in a module, and what they share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_rewrite_arguments(
    parser: argparse.ArgumentParser, name: str, prefix: str
) -> argparse._MutuallyExclusiveGroup:
    """Add what commands that rewrite a checkpoint have in common.

    Returns the group of ``--statistics`` and ``--datastore``.
    """
    parser.add_argument(
        "-o",
        dest="output",
        metavar="NEW",
        type=Path,
        help=f"the new file (default: {prefix}{name} in the same folder)",
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help=f"replace the file, and keep the old one as {name}.bak",
    )
    parser.add_argument(
        "--allow",
        metavar="CLASS",
        action="append",
        default=[],
        help="accept this class besides the known ones, such as"
        " my_package.MyConfig",
    )
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
    dataset = parser.add_mutually_exclusive_group()
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
    return dataset
