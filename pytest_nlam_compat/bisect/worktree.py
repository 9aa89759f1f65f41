"""A worktree of the clone, for as long as the search takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.git import Git


@contextmanager
def worktree(clone: Clone, folder: Path, commit: str) -> Iterator[Git]:
    """Check a commit out elsewhere; afterwards git knows nothing of it.

    HEAD, index and the state of a bisect belong to each worktree alone: those
    of the user's own are not concerned.

    Parameters
    ----------
    clone : Clone
    folder : pathlib.Path
        Where; what a killed process has left there is removed first.
    commit : str

    Yields
    ------
    Git
        In the worktree.
    """
    remove(clone, folder)
    clone.git("worktree", "add", "--detach", str(folder), commit)
    try:
        yield Git(folder, alone=True)
    finally:
        remove(clone, folder)


def remove(clone: Clone, folder: Path) -> None:
    """Remove a worktree, however much there is of it.

    Parameters
    ----------
    clone : Clone
    folder : pathlib.Path
    """
    # git refuses to remove a folder that it had not finished. `prune` would
    # forget worktrees of the user's on a disk that is not there, too.
    shutil.rmtree(folder, ignore_errors=True)
    # Twice: one that git was killed in is still locked.
    clone.git.ask("worktree", "remove", "--force", "--force", str(folder))
