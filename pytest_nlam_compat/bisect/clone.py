"""The user's clone of neural-lam, which is only read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_nlam_compat.bisect.git import Git
from pytest_nlam_compat.errors import CompatError

PACKAGE = "neural_lam/__init__.py"


@dataclass(frozen=True)
class Clone:
    """A git repository with neural-lam in it.

    Attributes
    ----------
    git : Git
        In the folder that the user named.
    repository : pathlib.Path
        What all working trees of the clone share: its ``.git``.
    """

    git: Git
    repository: Path

    @classmethod
    def at(cls, folder: Path) -> Clone:
        """Find the repository of a folder.

        Parameters
        ----------
        folder : pathlib.Path

        Returns
        -------
        Clone

        Raises
        ------
        CompatError
            It is in none, or git is not installed.
        """
        git = Git(folder)
        shared = git.ask("rev-parse", "--git-common-dir")
        if shared is None:
            raise CompatError(
                "There is no git repository.",
                facts={"looked in": folder.absolute()},
                remedy="Run it in a clone of neural-lam, or name one with "
                "--clone.",
            )
        return cls(git, (folder / shared).resolve())

    def commit(self, option: str, revision: str) -> str:
        """Return the hash of a commit with neural-lam in it.

        Parameters
        ----------
        option : str
            Where the user named it.
        revision : str

        Returns
        -------
        str

        Raises
        ------
        CompatError
            There is no such commit, or no neural_lam at its root.
        """
        found = self.git.ask(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{revision}^{{commit}}",
        )
        if not found:
            raise CompatError(
                f"There is no commit {revision!r}.",
                facts={"option": option, "repository": self.repository},
                remedy="Name a commit, branch or tag of this clone; "
                "`git fetch --tags` brings those of its origin.",
            )
        if self.git.ask("cat-file", "-e", f"{found}:{PACKAGE}") is None:
            raise CompatError(
                f"{option} is no commit of neural-lam.",
                facts={
                    "commit": self.title(found),
                    "expected": f"{PACKAGE} at the root of the repository",
                    "repository": self.repository,
                },
                remedy="Run it in a clone of neural-lam, or name one with "
                "--clone.",
            )
        return found

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether a commit is in the history of another.

        Parameters
        ----------
        older, newer : str

        Returns
        -------
        bool
        """
        asked = self.git.ask("merge-base", "--is-ancestor", older, newer)
        return asked is not None

    def parents(self, commit: str) -> list[str]:
        """Return the hashes of the parents of a commit.

        Parameters
        ----------
        commit : str

        Returns
        -------
        list of str
        """
        return self.git("log", "-1", "--format=%P", commit).split()

    def title(self, commit: str) -> str:
        """Return the short hash and the subject of a commit.

        Parameters
        ----------
        commit : str

        Returns
        -------
        str
        """
        return self.git("log", "-1", "--format=%h %s", commit)
