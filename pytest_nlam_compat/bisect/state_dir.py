"""The state of an interrupted bisect, in the user's cache.

A private repository with git's own bisect state, and a file with the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_nlam_compat import __version__
from pytest_nlam_compat.bisect.git import Clone, Git
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.store import CACHE_VARIABLE


@dataclass(frozen=True)
class BisectOptions:
    """What to find, and what verdicts depend on."""

    # Hashes of commits.
    good: str
    bad: str
    # Specifier of releases and pattern of cases.
    release: str
    case: str
    # For the checks of one commit, in seconds.
    timeout: float
    versions: str = field(
        default_factory=lambda: (
            f"pytest-nlam-compat {__version__}, torch {version('torch')}, "
            f"Python {platform.python_version()}"
        )
    )


@dataclass
class BisectState:
    """What git's own bisect state does not hold."""

    options: BisectOptions
    # Fields of the CommitGrades at "good" and "bad", once they are known.
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By the hash of the commit.
    skip_reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StateDir:
    """The folder of one clone's bisect."""

    folder: Path

    @classmethod
    def of(cls, clone: Clone) -> StateDir:
        """Return the one of a clone; nothing is made yet."""
        import pooch

        cache = os.environ.get(CACHE_VARIABLE)
        root = Path(cache or pooch.os_cache("pytest-nlam-compat")).absolute()
        digest = hashlib.sha256(os.fsencode(clone.repository)).hexdigest()
        return cls(root / "bisect" / digest[:16])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; raise CompatError if one is in."""
        import filelock

        lock = filelock.FileLock(f"{self.folder}.lock", timeout=0)
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            raise CompatError(
                "Another nlam-compat bisect of this clone is running.",
                facts={"lock": lock.lock_file},
                remedy="Wait for it, or stop it.",
            ) from None
        except OSError as error:
            raise CompatError(
                "The state of the bisect can't be stored.",
                facts={"folder": self.folder.parent, "cause": error},
                remedy=f"Set {CACHE_VARIABLE} to a writable folder.",
            ) from None
        try:
            yield
        finally:
            lock.release()

    def read(self) -> BisectState | None:
        """Return the state of an interrupted bisect, None without one."""
        try:
            found = json.loads((self.folder / "state.json").read_text())
            return BisectState(BisectOptions(**found.pop("options")), **found)
        # KeyError or TypeError: another version of this module wrote it.
        except (FileNotFoundError, KeyError, TypeError):
            return None

    def write(self, state: BisectState) -> None:
        """Store all of the state; if killed meanwhile, nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "state.part"
        part.write_text(json.dumps(asdict(state)))
        part.replace(self.folder / "state.json")

    def discard(self) -> bool:
        """Delete the folder; return whether there was one."""
        found = self.folder.exists()
        shutil.rmtree(self.folder, ignore_errors=True)
        return found

    def worktree(self, clone: Clone, commit: str) -> Git:
        """Return the private repository, with `commit` checked out if new.

        It borrows the clone's objects, and has none of its hooks.
        """
        tree = Git(self.folder / "worktree", private=True)
        if tree.ask("bisect", "log"):
            # Left by a git that was killed.
            for lock in tree.folder.glob(".git/**/*.lock"):
                lock.unlink()
            return tree
        shutil.rmtree(tree.folder, ignore_errors=True)
        tree.folder.mkdir(parents=True)
        tree("init", "--quiet", "--template=")
        repository = tree.folder / ".git"
        borrowed = os.fsencode(clone.repository / "objects") + b"\n"
        (repository / "objects" / "info" / "alternates").write_bytes(borrowed)
        if (clone.repository / "shallow").exists():
            shutil.copy(clone.repository / "shallow", repository)
        # What a partial clone lacks is fetched from where it came from.
        promisor = r"^remote\..*\.(promisor|partialclonefilter)$"
        if found := clone.git.ask("config", "--get-regexp", promisor):
            urls = clone.git("config", "--get-regexp", r"^remote\..*\.url$")
            for line in [*found.splitlines(), *urls.splitlines()]:
                tree("config", *line.split(" ", 1))
        tree("checkout", "--quiet", "--detach", commit)
        return tree
