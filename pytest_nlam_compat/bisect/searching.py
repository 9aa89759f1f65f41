"""git bisect in a worktree."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_nlam_compat.bisect.git import Git, failed

MARK = "nlam-compat: "
"""What a line for the user begins with, among those of git."""

INTERRUPTED = 130
"""Status of a judge that came to no verdict: from 128 on, git ends."""

# git makes another status of it, but says which it was.
_INTERRUPTED = re.compile(rf"exit code {INTERRUPTED}\b")
_FIRST = re.compile(r"^# first bad commit: \[(\w+)\]", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first bad commit: \[(\w+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a search ended with.

    Attributes
    ----------
    first : str or None
        Hash of the first bad commit.
    possible : tuple of str
        Without it: those that can be it, the newest first.
    """

    first: str | None
    possible: tuple[str, ...] = ()


def search(
    tree: Git,
    good: str,
    bad: str,
    judge: Sequence[str],
    tell: Callable[[str], None],
) -> Outcome:
    """Let git look for the first bad commit.

    Parameters
    ----------
    tree : Git
        In a worktree of which nobody else has need.
    good, bad : str
        The one is an ancestor of the other.
    judge : sequence of str
        Command that judges what is checked out in its working folder: status
        0 for good, 125 if it can't tell, others below 128 for bad. The end of
        its standard input is that of this process. Of what it prints, lines
        that begin with `MARK` are for the user.
    tell : callable
        Gets these.

    Returns
    -------
    Outcome

    Raises
    ------
    CompatError
        git fails.
    KeyboardInterrupt
        The judge was interrupted.
    """
    tree("bisect", "start", bad, good)
    outcome = _outcome(tree)
    # Between neighbours there is nothing to search, and `run` would fail.
    if outcome is None:
        status, said = _run(tree, judge, tell)
        outcome = _outcome(tree)
        if outcome is None:
            if status < 0 or _INTERRUPTED.search(said):
                raise KeyboardInterrupt
            raise failed("bisect run", status, said)
    return outcome


def _run(
    tree: Git, judge: Sequence[str], tell: Callable[[str], None]
) -> tuple[int, str]:
    process = tree.start("bisect", "run", *judge)
    assert process.stdin is not None
    assert process.stdout is not None
    last: list[str] = []
    try:
        for line in process.stdout:
            if line.startswith(MARK):
                tell(line.removeprefix(MARK).rstrip("\n"))
            else:
                last = [*last, line][-5:]
    finally:
        # Whatever happened here: the judge sees it, and git ends.
        process.stdin.close()
        process.wait()
        process.stdout.close()
    return process.returncode, "".join(last)


def _outcome(tree: Git) -> Outcome | None:
    log = tree("bisect", "log")
    first = _FIRST.search(log)
    if first is not None:
        return Outcome(first[1])
    possible = tuple(dict.fromkeys(_POSSIBLE.findall(log)))
    return Outcome(None, possible) if possible else None
