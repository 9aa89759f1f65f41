"""Verdicts on commits, each found once, however often a bisect is begun."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.git import Git
from pytest_nlam_compat.bisect.judging import (
    Examined,
    Verdict,
    examine,
    judge,
)
from pytest_nlam_compat.bisect.state_dir import Asked, Place

_PREFIX = "verdict-"


@dataclass(frozen=True)
class Verdicts:
    """What is known of commits, and how more is found out.

    Attributes
    ----------
    clone : Clone
    place : Place
    asked : Asked
    tree : Git
        In the worktree.
    tell : callable
        Gets a line for each commit that is judged.
    """

    clone: Clone
    place: Place
    asked: Asked
    tree: Git
    tell: Callable[[str], None]

    def wanted(self) -> list[str]:
        """Return the checks that count."""
        names: list[str] = self.place.read("wanted")["checks"]
        return names

    def known(self, commit: str) -> Verdict | None:
        """Return the verdict on a commit that was judged.

        Parameters
        ----------
        commit : str
        """
        found = self.place.read(_PREFIX + commit)
        return None if found is None else Verdict(**found)

    def all(self) -> dict[str, Verdict]:
        """Return the verdicts on all commits that were judged, by hash."""
        kept = [name.partition(_PREFIX) for name in self.place.names()]
        hashes = [commit for before, _, commit in kept if not before]
        return {
            commit: verdict
            for commit in hashes
            if (verdict := self.known(commit)) is not None
        }

    def of(self, commit: str) -> Verdict:
        """Judge a commit, unless it was.

        Parameters
        ----------
        commit : str

        Returns
        -------
        Verdict

        Raises
        ------
        KeyboardInterrupt
            Then nothing is known of it.
        """
        verdict = self.known(commit)
        if verdict is None:
            started = time.monotonic()
            wanted = self.wanted()
            verdict = judge(self.examined(commit, wanted, first=True), wanted)
            self.place.write(_PREFIX + commit, asdict(verdict))
            hash_, _, subject = self.clone.title(commit).partition(" ")
            took = f"{time.monotonic() - started:.0f} s"
            self.tell(f"{hash_} {verdict.word:4} {took:>5}  {subject}")
            if verdict.reason:
                self.tell(f"    since {verdict.reason}")
        return verdict

    def examined(
        self,
        commit: str,
        wanted: list[str] | None,
        *,
        first: bool = False,
        diagnose: bool = False,
    ) -> Examined:
        """Run checks at a commit.

        Parameters
        ----------
        commit : str
        wanted : list of str or None
            Names of checks, None for all.
        first : bool
            Whether the first failure is enough.
        diagnose : bool
            Whether to look for the causes.

        Returns
        -------
        Examined
        """
        self.tree("checkout", "--quiet", "--detach", commit)
        return examine(
            self.tree,
            self.place,
            self.asked,
            wanted,
            first=first,
            diagnose=diagnose,
        )
