"""What is to be thought of one commit."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from pytest_nlam_compat.bisect.checking import Request, Result
from pytest_nlam_compat.bisect.clone import PACKAGE
from pytest_nlam_compat.bisect.environment import environment
from pytest_nlam_compat.bisect.git import Git
from pytest_nlam_compat.bisect.searching import INTERRUPTED
from pytest_nlam_compat.bisect.state_dir import Asked, Place

_MODULE = "pytest_nlam_compat.bisect.checking"
_PYTEST_JUDGED = (0, 1, 5)
# Of processes that somebody ended, by a key or a signal; a crash is the code's.
_FROM_OUTSIDE = (
    INTERRUPTED,
    -signal.SIGINT,
    -signal.SIGTERM,
    -getattr(signal, "SIGHUP", signal.SIGTERM),
    -getattr(signal, "SIGKILL", signal.SIGTERM),
)


@dataclass(frozen=True)
class Examined:
    """What came of the checks at a commit.

    Attributes
    ----------
    broken : str
        Why there were none; empty if there were.
    taken_for : str
        Release that the code was taken for.
    offered : list of str
        Names of the checks that could be made.
    failed : dict of str to dict
        Properties of those that failed, by name.
    """

    broken: str
    taken_for: str
    offered: list[str]
    failed: dict[str, dict[str, object]]


@dataclass(frozen=True)
class Verdict:
    """What git is told of a commit.

    Attributes
    ----------
    word : {"good", "bad", "skip"}
    reason : str
        Why it is skipped.
    """

    word: Literal["good", "bad", "skip"]
    reason: str = ""


def judge(examined: Examined, wanted: Sequence[str]) -> Verdict:
    """Decide on a commit.

    Parameters
    ----------
    examined : Examined
    wanted : sequence of str
        The checks that count: they fail at the bad commit, and pass at the
        good one.

    Returns
    -------
    Verdict
        Good only if all of them were made and passed: one that could not be
        made might have failed.
    """
    if examined.broken:
        return Verdict("skip", examined.broken)
    if examined.failed:
        return Verdict("bad")
    missing = len(set(wanted) - set(examined.offered))
    if missing:
        return Verdict(
            "skip",
            f"{missing} of {len(wanted)} checks can't be made: the code was "
            f"taken for {examined.taken_for}",
        )
    return Verdict("good")


def examine(
    tree: Git,
    place: Place,
    asked: Asked,
    wanted: list[str] | None,
    *,
    first: bool = False,
    diagnose: bool = False,
) -> Examined:
    """Run the checks on what is checked out.

    Parameters
    ----------
    tree : Git
        In the worktree. What the checks leave there is removed.
    place : Place
        For files on the way.
    asked : Asked
    wanted : list of str or None
        Names of checks, None for all.
    first : bool
        Whether the first failure is enough.
    diagnose : bool
        Whether to look for the causes.

    Returns
    -------
    Examined

    Raises
    ------
    KeyboardInterrupt
        Of the checks.
    """
    if not (tree.folder / PACKAGE).is_file():
        return _broken(f"it has no {PACKAGE}")
    temporary = place.folder / "temporary"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    request = Request(
        release=asked.release,
        case=asked.case,
        wanted=wanted,
        first=first,
        diagnose=diagnose,
        temporary=str(temporary / "tests"),
    )
    examined = _check(tree, request, temporary)
    # The next commit is to find nothing that this one has left.
    tree("reset", "--hard", "--quiet")
    tree("clean", "-ffdxq")
    return examined


def _check(tree: Git, request: Request, temporary: Path) -> Examined:
    """Run the checks in another process, and read what came of them."""
    question, answer = temporary / "request.json", temporary / "result.json"
    question.write_text(json.dumps(request), encoding="utf-8")
    out, err = temporary / "out.txt", temporary / "err.txt"
    with (
        out.open("wb") as stdout,
        err.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(question), str(answer)],
            cwd=tree.folder,
            env=environment(tree, temporary),
            # Open for as long as somebody waits for the answer.
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        ) as process,
    ):
        status = process.wait()
    said = err.read_text(encoding="utf-8", errors="replace").splitlines()
    if not answer.exists():
        if status in _FROM_OUTSIDE:
            raise KeyboardInterrupt
        if status < 0:
            return _broken(
                f"the checks crashed: {signal.Signals(-status).name}"
            )
        last = said[-1] if said else "-"
        return _broken(f"the checks ended with status {status}: {last}")
    result: Result = json.loads(answer.read_text(encoding="utf-8"))
    if result["interrupted"]:
        raise KeyboardInterrupt
    if result["status"] not in _PYTEST_JUDGED:
        said += out.read_text(encoding="utf-8", errors="replace").splitlines()
        return _broken(_gist(said, result["status"]))
    package = Path(result["package"])
    if not package.resolve().is_relative_to(tree.folder.resolve()):
        return _broken(f"another neural_lam was imported: {package}")
    return Examined(
        broken="",
        taken_for=result["taken_for"],
        offered=result["offered"],
        failed=result["failed"],
    )


def _broken(why: str) -> Examined:
    return Examined(broken=why, taken_for="", offered=[], failed={})


def _gist(said: Sequence[str], status: int) -> str:
    """Return why pytest did not begin, and the cause if it says."""
    for index, line in enumerate(said):
        why = re.match(r"(?:ERROR: |E +)(.+)", line)
        if why is None:
            continue
        facts = takewhile(lambda line: line.strip(), said[index + 1 :])
        causes = (fact.split("cause: ", 1) for fact in facts)
        cause = next((found[1] for found in causes if len(found) == 2), "")
        return f"{why[1]} {cause}".rstrip()
    return f"pytest ended with status {status}"
