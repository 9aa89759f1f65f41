"""``nlam-compat bisect``: the first commit that changed the meaning."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.bisect.clone import Clone
    from pytest_nlam_compat.bisect.state_dir import Asked

HELP = "Find the first commit of neural-lam at which references fail."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--good",
        metavar="REV",
        help="a commit, branch or tag at which they passed",
    )
    parser.add_argument(
        "--bad",
        metavar="REV",
        help="a later one at which they fail, such as HEAD",
    )
    parser.add_argument(
        "--clone",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="clone of neural-lam; it is only read (default: this folder)",
    )
    parser.add_argument(
        "--release",
        metavar="SPEC",
        default="",
        help="only references of these releases, such as '>=0.5' (PEP 440)",
    )
    parser.add_argument(
        "--case",
        metavar="GLOB",
        default="*",
        help="only these cases, such as 'hi_lam*'",
    )
    parser.add_argument(
        "--reset",
        action="store_true",
        help="throw away what an interrupted bisect of this clone has left",
    )


def run(arguments: argparse.Namespace) -> int:
    """Search, and print what was found.

    Parameters
    ----------
    arguments : Namespace
        With ``good``, ``bad``, ``clone``, ``release``, ``case`` and ``reset``.

    Returns
    -------
    int
        0 if the commit was found, 1 if it is one of several.

    Raises
    ------
    CompatError
        There is no such clone or commit, or nothing to search for.
    KeyboardInterrupt
        After it was said how to go on.
    """
    from pytest_nlam_compat.bisect.bisect import find, reset
    from pytest_nlam_compat.bisect.clone import Clone
    from pytest_nlam_compat.bisect.report import report

    clone = Clone.at(arguments.clone)
    if arguments.reset:
        was_there = reset(clone)
        print("Thrown away." if was_there else "There is none to throw away.")
        return 0
    asked = _asked(clone, arguments)
    try:
        found = find(clone, asked, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(
            "What was found out is kept: the same command goes on from here, "
            "and\nnlam-compat bisect --reset throws it away.",
            flush=True,
        )
        raise
    for line in report(clone, found):
        print(line)
    return int(found.first is None)


def _asked(clone: Clone, arguments: argparse.Namespace) -> Asked:
    from pytest_nlam_compat.bisect.state_dir import Asked

    if arguments.good is None or arguments.bad is None:
        raise CompatError(
            "Two commits are needed to search between them.",
            facts={"expected": "--good REV and --bad REV"},
            remedy="Give both.",
        )
    good = clone.commit("--good", arguments.good)
    bad = clone.commit("--bad", arguments.bad)
    if good == bad or not clone.is_ancestor(good, bad):
        raise CompatError(
            "--good and --bad are the same commit."
            if good == bad
            else "--good is not in the history of --bad.",
            facts={"--good": clone.title(good), "--bad": clone.title(bad)},
            remedy="Name an older commit of the same branch as --good; `git "
            "merge-base GOOD BAD` gives the newest.",
        )
    return Asked(good, bad, arguments.release, arguments.case)
