"""The environment in which the neural_lam of a commit is imported."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_nlam_compat.bisect.git import Git

# They would make checks of other commits differ, or the plugin be absent.
_NOT_INHERITED = frozenset({"PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"})


def environment(tree: Git, temporary: Path) -> dict[str, str]:
    """Put the worktree before whatever neural_lam is installed.

    Parameters
    ----------
    tree : Git
        In the worktree.
    temporary : pathlib.Path
        Folder for what is to come before it, too.

    Returns
    -------
    dict of str to str
        The variables of a process.
    """
    kept = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    inherited = kept.get("PYTHONPATH", "").split(os.pathsep)
    path = [
        _metadata(tree, temporary),
        tree.folder,
        *(Path(each).absolute() for each in inherited if each),
    ]
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        # Bytecode is found again by time and size, which are the same for
        # files of two commits that are checked out within a second.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _metadata(tree: Git, temporary: Path) -> Path:
    """Make the metadata that an install of this commit would have.

    Those of the installed neural-lam would say of an older commit that it is
    newer than it is, and have it judged by references of later releases.
    """
    tag = tree.ask("describe", "--tags", "--abbrev=0", "--match=v[0-9]*")
    version = (tag or "v0").removeprefix("v")
    folder = temporary / "metadata"
    info = folder / "neural_lam-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: neural-lam\nVersion: {version}\n",
        encoding="utf-8",
    )
    return folder
