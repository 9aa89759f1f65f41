"""Find the first commit at which references fail."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.commands import CommandResult, add_options
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.bisect.git import Clone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--good", metavar="REV", help="a commit, branch or tag that passed"
    )
    parser.add_argument(
        "--bad", metavar="REV", help="a later one that fails, such as HEAD"
    )
    parser.add_argument(
        "--clone",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="clone of neural-lam; it is only read (default: this folder)",
    )
    add_options(parser, "--release", "--case")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_positive,
        default=600,
        help="skip a commit whose checks take longer (default: 600)",
    )
    parser.add_argument(
        "--reset", action="store_true", help="discard an interrupted bisect"
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Search, and return what was found.

    The exit status is 0 if the commit was found, 1 if it is one of several.
    """
    from pytest_nlam_compat.bisect.bisect import find_first_bad, report, tell
    from pytest_nlam_compat.bisect.git import Clone
    from pytest_nlam_compat.bisect.state_dir import BisectOptions, StateDir

    clone = Clone.at(arguments.clone)
    if arguments.reset:
        state_dir = StateDir.of(clone)
        with state_dir.locked():
            found = state_dir.discard()
        said = "Discarded." if found else "There is nothing to discard."
        return CommandResult({"discarded": found}, [said])
    options = BisectOptions(
        *_endpoints(clone, arguments),
        release=arguments.release,
        case=arguments.case or "*",
        timeout=arguments.timeout,
    )
    try:
        outcome = find_first_bad(clone, options)
    except KeyboardInterrupt:
        tell(
            "The verdicts are kept: run the same command again to resume, or "
            "discard them:\nnlam-compat bisect --reset"
        )
        raise
    return CommandResult(
        asdict(outcome),
        report(clone, outcome),
        int(len(outcome.candidates) > 1),
    )


def _endpoints(clone: Clone, arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the hashes of --good and --bad."""
    if arguments.good is None or arguments.bad is None:
        raise CompatError(
            "A search needs two commits.",
            facts={"expected": "--good REV and --bad REV"},
            remedy="Pass both.",
        )
    good = clone.commit("--good", arguments.good)
    bad = clone.commit("--bad", arguments.bad)
    ancestor = clone.git.ask("merge-base", "--is-ancestor", good, bad)
    if good == bad or ancestor is None:
        raise CompatError(
            "--good and --bad are the same commit."
            if good == bad
            else "--good is not in the history of --bad.",
            facts={"--good": clone.title(good), "--bad": clone.title(bad)},
            remedy="Name an older commit of the same branch as --good; `git "
            "merge-base GOOD BAD` prints the newest.",
        )
    return good, bad


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds
