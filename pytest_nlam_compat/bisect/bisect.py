"""A whole bisect, from the two commits to the one that is to blame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.endpoints import (
    RefusedError,
    compare_endpoints,
)
from pytest_nlam_compat.bisect.judging import Examined, Verdict
from pytest_nlam_compat.bisect.searching import search
from pytest_nlam_compat.bisect.state_dir import Asked, Place
from pytest_nlam_compat.bisect.verdicts import Verdicts
from pytest_nlam_compat.bisect.wording import count, summary
from pytest_nlam_compat.bisect.worktree import remove, worktree
from pytest_nlam_compat.errors import CompatError


@dataclass(frozen=True)
class Found:
    """What a bisect came to.

    Attributes
    ----------
    first : str or None
        Hash of the first commit that changed the meaning.
    possible : tuple of str
        Without it: those that can be it, the newest first.
    examined : Examined or None
        What the checks said at the first.
    judged : dict of str to Verdict
        Commits that were tried besides the two, by hash.
    unsure : tuple of str
        Parents of the first that could not be judged.
    """

    first: str | None
    possible: tuple[str, ...]
    examined: Examined | None
    judged: dict[str, Verdict]
    unsure: tuple[str, ...] = ()


def find(clone: Clone, asked: Asked, tell: Callable[[str], None]) -> Found:
    """Search for the first commit that changed the meaning.

    An interrupt leaves the verdicts, and nothing else; the next search for
    the same goes on with them.

    Parameters
    ----------
    clone : Clone
    asked : Asked
    tell : callable
        Gets lines for the user, one at a time.

    Returns
    -------
    Found

    Raises
    ------
    CompatError
        Another bisect is under way, or there is nothing to search for.
    """
    place = Place.of(clone.repository)
    with place.held():
        if place.asked is None:
            place.discard()
            place.begin(asked)
        elif place.asked != asked:
            raise _another(clone, place.asked)
        else:
            tell("Going on with the bisect that was interrupted.")
        try:
            found = _find(clone, place, asked, tell)
        except RefusedError:
            place.discard()
            raise
        place.discard()
        return found


def reset(clone: Clone) -> bool:
    """Throw away what an interrupted bisect has left.

    Parameters
    ----------
    clone : Clone

    Returns
    -------
    bool
        Whether there was one.
    """
    place = Place.of(clone.repository)
    with place.held():
        there = place.folder.exists()
        if there:
            remove(clone, place.tree)
            place.discard()
        return there


def _find(
    clone: Clone, place: Place, asked: Asked, tell: Callable[[str], None]
) -> Found:
    with worktree(clone, place.tree, asked.bad) as tree:
        verdicts = Verdicts(clone, place, asked, tree, tell)
        wanted = compare_endpoints(verdicts)
        module = "pytest_nlam_compat.bisect"
        judge = [sys.executable, "-m", module, str(place.folder)]
        number = int(tree("rev-list", "--count", f"{asked.good}..{asked.bad}"))
        steps = number.bit_length() - 1
        if steps:
            tell(f"Searching {number} commits, about {count(steps, 'step')}")
        outcome = search(tree, asked.good, asked.bad, judge, tell)
        if outcome.first is None:
            return Found(None, outcome.possible, None, verdicts.all())
        unsure = _judge_parents(verdicts, outcome.first)
        tell(f"Looking for the cause at {clone.title(outcome.first)}")
        examined = verdicts.examined(outcome.first, wanted, diagnose=True)
        if not examined.failed:
            raise RefusedError(
                "A commit that was judged bad is not when it is checked again.",
                facts={
                    "commit": clone.title(outcome.first),
                    "checks": summary(wanted),
                    "cause": examined.broken or "none of them failed",
                },
                remedy="Run it again; if it comes back, the checks of this "
                "commit depend on more than its code.",
            )
        return Found(outcome.first, (), examined, verdicts.all(), unsure)


def _judge_parents(verdicts: Verdicts, first: str) -> tuple[str, ...]:
    """Insist that no parent of the first bad commit is bad itself.

    git takes whatever is older than the good commit for good. A branch that
    left before it can lack what was mended until then.
    """
    unsure = []
    for parent in verdicts.clone.parents(first):
        if parent == verdicts.asked.good:
            continue
        word = verdicts.of(parent).word
        if word == "bad":
            raise RefusedError(
                "The search ended at a commit whose parent fails as well.",
                facts={
                    "commit": verdicts.clone.title(first),
                    "parent": verdicts.clone.title(parent),
                    "--good": verdicts.clone.title(verdicts.asked.good),
                },
                remedy="That branch was begun before --good, and lacks what "
                "was mended until then. Name an older --good, from which both "
                "come.",
            )
        if word == "skip":
            unsure.append(parent)
    return tuple(unsure)


def _another(clone: Clone, there: Asked) -> CompatError:
    return CompatError(
        "An interrupted bisect of something else is there.",
        facts={
            "--good": clone.title(there.good),
            "--bad": clone.title(there.bad),
            "--release": there.release or "any",
            "--case": there.case,
        },
        remedy="Give these options again to go on with it, or throw it away: "
        "nlam-compat bisect --reset",
    )
