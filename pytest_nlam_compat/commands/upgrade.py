"""Convert old checkpoints for a newer neural-lam.

One file, or all below a folder; no code in the files is run.
"""

from __future__ import annotations

import argparse
import gc
import os
from pathlib import Path

from pytest_nlam_compat.commands import (
    CommandResult,
    add_options,
    add_rewrite_options,
    read_migrations,
)
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.releases import RELEASES
from pytest_nlam_compat.reports.terminal import progress
from pytest_nlam_compat.upgrade.request import NEWEST, UpgradeRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("path", metavar="OLD", type=Path)
    add_rewrite_options(parser, "OLD", "upgraded_", required=False)
    parser.add_argument(
        "--to",
        dest="target",
        metavar="R",
        choices=RELEASES,
        default=NEWEST,
        help="the release that will load it; for a development install, the "
        "release before it (default: the newest)",
    )
    parser.add_argument(
        "--graph-out",
        metavar="DIR",
        type=Path,
        help="write the converted graph directory here",
    )
    graph = parser.add_mutually_exclusive_group()
    add_options(graph, "--graph")
    graph.add_argument(
        "--graph-root",
        metavar="DIR",
        type=Path,
        help="instead of --graph, where the graph directories are: each run's "
        "is found, and written to --graph-out, by its name",
    )
    parser.add_argument(
        "--graph-name-differs",
        action="store_true",
        help="use --graph although the run names another graph",
    )
    parser.add_argument(
        "--drop-optimizer",
        action="store_true",
        help="leave out the optimizer state, if it can't be converted",
    )
    parser.add_argument(
        "--keep-device",
        action="store_true",
        help="leave tensors on the devices they were on, such as cuda:3, "
        "instead of marking them as on the CPU",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report only, write nothing"
    )
    add_options(parser, "--migrations", "--verify")


def run(arguments: argparse.Namespace) -> CommandResult:
    """Upgrade a file or a folder, and return the result.

    The exit status is 1 if a file of a folder is refused.
    """
    from pytest_nlam_compat.upgrade.dataset_facts import load_facts

    # Folds are small, and torch is much to import: threads, and searching for
    # garbage meanwhile, take a fifth of a second.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.set_threshold(100_000)
    request = UpgradeRequest(
        origin=arguments.origin,
        target=arguments.target,
        own=read_migrations(arguments.migrations),
        graph=arguments.graph,
        graph_root=arguments.graph_root,
        graph_out=arguments.graph_out,
        graph_name_differs=arguments.graph_name_differs,
        facts=load_facts(arguments.statistics, arguments.datastore),
        config=arguments.datastore,
        allowed=tuple(arguments.allow),
        in_place=arguments.in_place,
        verify=arguments.verify,
        drop_optimizer=arguments.drop_optimizer,
        keep_device=arguments.keep_device,
        dry_run=arguments.dry_run,
    )
    if arguments.path.is_dir():
        return _upgrade_folder(arguments, request)
    from pytest_nlam_compat.upgrade.output import UPGRADED, OutputFile
    from pytest_nlam_compat.upgrade.upgrade import upgrade

    output = OutputFile(
        arguments.path, arguments.output, UPGRADED, arguments.in_place
    )
    with progress(f"Upgrading {printable(arguments.path.name)}"):
        result = upgrade(output, request)
    return CommandResult(result.plain(), [result.text()])


def _upgrade_folder(
    arguments: argparse.Namespace, request: UpgradeRequest
) -> CommandResult:
    from pytest_nlam_compat.upgrade.upgrade import upgrade_folder

    if arguments.output is not None:
        raise CompatError(
            "-o is for one file, and this is a folder.",
            facts={"folder": arguments.path, "output": arguments.output},
            remedy="Leave -o out: each new file is written beside its old one.",
        )
    if arguments.graph_name_differs:
        raise CompatError(
            "--graph-name-differs is for one file, and this is a folder.",
            facts={"folder": arguments.path},
            remedy="Upgrade the file alone, or pass --graph-root.",
        )
    with progress("Upgrading") as say:
        results = upgrade_folder(arguments.path, request, say)
    return CommandResult(
        results.plain(), results.lines(), int(not results.complete)
    )
