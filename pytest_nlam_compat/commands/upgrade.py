"""``nlam-compat upgrade``: make old checkpoints load in today's neural-lam."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.arguments import add_origin

# As in typing, whose import would take as long as copying 5 MB does.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_nlam_compat.upgrade.request import Request

NAME = "upgrade"
HELP = (
    "Convert a checkpoint, or all below a folder, into ones that a newer "
    "neural-lam loads. Nothing in the file is run."
)
_LARGE = 256 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("path", metavar="OLD", type=Path)
    parser.add_argument(
        "-o",
        dest="output",
        metavar="NEW",
        type=Path,
        help="the new file (default: upgraded_OLD beside the old one)",
    )
    add_origin(parser)
    parser.add_argument(
        "--to",
        dest="target",
        metavar="R",
        help="the release that is to load it (default: the newest)",
    )
    parser.add_argument(
        "--graph-out",
        metavar="DIR",
        type=Path,
        help="where the graph directory for the new file goes",
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="replace the file, and keep the old one as OLD.bak",
    )
    parser.add_argument(
        "--allow",
        metavar="CLASS",
        action="append",
        default=[],
        help="a class that it may name besides those known, such as"
        " my_package.MyConfig",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all tensors first, and check them by their checksums",
    )
    parser.add_argument(
        "--drop-optimizer",
        action="store_true",
        help="leave the optimizer's state behind, where it can't be carried",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="write nothing, only say what"
    )
    parser.add_argument(
        "--json", action="store_true", help="print what was done as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """Upgrade, and tell what was done.

    Parameters
    ----------
    arguments : Namespace
        As `add_arguments` declares them.

    Returns
    -------
    int
        0; 1 if a file of a folder was refused.

    Raises
    ------
    CompatError
        If the one file is refused.
    """
    if arguments.path.is_dir():
        return _upgrade_folder(arguments)
    from pytest_nlam_compat.upgrade.output import UPGRADED, Output

    # What is folded is small; threads of numpy's would only take the core from
    # the one that copies.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with Output(
        arguments.path, arguments.output, UPGRADED, arguments.in_place
    ) as output:
        if not arguments.dry_run:
            output.begin()
        # These imports take long enough to copy a good part of the file.
        from pytest_nlam_compat.upgrade.upgrade import upgrade

        outcome = upgrade(output, _request(arguments), _progress())
    if arguments.json:
        import json

        print(json.dumps(outcome.plain(), indent=1))
    else:
        print(outcome.text())
    return 0


def _upgrade_folder(arguments: argparse.Namespace) -> int:
    from pytest_nlam_compat.upgrade.folder import upgrade_folder

    if arguments.output is not None:
        raise CompatError(
            "One output is not enough for a folder.",
            facts={"folder": arguments.path, "output": arguments.output},
            remedy="Leave -o out: each goes beside its old one.",
        )
    request = _request(arguments)
    rows = upgrade_folder(arguments.path, request, _progress())
    return rows.show(arguments.json)


def _request(arguments: argparse.Namespace) -> Request:
    from pytest_nlam_compat.upgrade.request import NEWEST, Request

    facts = None
    if arguments.statistics or arguments.datastore:
        from pytest_nlam_compat.upgrade.dataset_facts import facts_given

        facts = facts_given(arguments.statistics, arguments.datastore)
    return Request(
        origin=arguments.origin,
        target=arguments.target or NEWEST,
        graph=arguments.graph,
        graph_out=arguments.graph_out,
        facts=facts,
        allowed=tuple(arguments.allow),
        in_place=arguments.in_place,
        verify=arguments.verify,
        drop_optimizer=arguments.drop_optimizer,
        dry_run=arguments.dry_run,
    )


def _progress() -> Callable[[int, int], None] | None:
    """Return what shows progress on a terminal, for large files only."""
    if not sys.stderr.isatty():
        return None

    shown = -1

    def show(done: int, whole: int) -> None:
        nonlocal shown
        percent = 100 * done // max(whole, 1)
        if whole >= _LARGE and percent != shown:
            shown = percent
            end = "\n" if done == whole else ""
            print(f"\r{percent:3d} %", end=end, file=sys.stderr, flush=True)

    return show
