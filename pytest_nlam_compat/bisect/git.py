"""git, without hooks, and the user's clone, which is only read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.under_test.git_folder import GitFolder

PACKAGE = "neural_lam/__init__.py"

_NAME_A_CLONE = "Run it in a clone of neural-lam, or name one with --clone."


class Git(GitFolder):
    """git in a folder, where each command has to succeed."""

    def __call__(self, *arguments: str) -> str:
        """Return what git prints; raise CompatError if it fails."""
        done = self.run(arguments)
        if done.returncode:
            raise CompatError(
                f"git {arguments[0]} failed.",
                facts={"git says": " ".join(done.stderr.split()) or "nothing"},
                remedy="Fix this and run the command again: verdicts are "
                "kept. `nlam-compat bisect --reset` discards them.",
            )
        return done.stdout.strip()


@dataclass(frozen=True)
class Clone:
    """The user's clone of neural-lam."""

    git: Git
    # The .git folder that all worktrees of the clone share.
    repository: Path

    @classmethod
    def at(cls, folder: Path) -> Clone:
        """Find the repository of a folder; CompatError if there is none."""
        if shutil.which("git") is None:
            raise CompatError(
                "git is not installed.",
                remedy="Install it, or add it to the PATH.",
            )
        git = Git(folder)
        shared = git.ask("rev-parse", "--git-common-dir")
        if shared is None:
            raise CompatError(
                "There is no git repository.",
                facts={"looked in": folder.absolute()},
                remedy=_NAME_A_CLONE,
            )
        return cls(git, (folder / shared).resolve())

    def commit(self, option: str, revision: str) -> str:
        """Return the hash of a commit of neural-lam that an option names."""
        commit = f"{revision}^{{commit}}"
        found = self.git.ask(
            "rev-parse", "--verify", "--quiet", "--end-of-options", commit
        )
        if not found:
            raise CompatError(
                f"There is no commit {revision!r}.",
                facts={"option": option, "repository": self.repository},
                remedy="Name a commit, branch or tag of this clone; "
                "`git fetch --tags` gets those of its origin.",
            )
        if self.git.ask("rev-parse", "--verify", f"{found}:{PACKAGE}") is None:
            raise CompatError(
                f"{option} is not a commit of neural-lam.",
                facts={
                    "commit": self.title(found),
                    "expected": f"{PACKAGE} at the root of {self.repository}",
                },
                remedy=_NAME_A_CLONE,
            )
        return found

    def parents(self, commit: str) -> list[str]:
        """Return the hashes of the parents of a commit."""
        return self.git("log", "-1", "--format=%P", commit).split()

    def title(self, commit: str) -> str:
        """Return the short hash and the subject of a commit."""
        return self.git("log", "-1", "--format=%h %s", commit)

    def version(self, commit: str) -> str:
        """Return the newest release in a commit's history, by the tags."""
        options = ("--tags", "--abbrev=0", "--match=v[0-9]*")
        tag = self.git.ask("describe", *options, commit)
        return (tag or "v0").removeprefix("v")
