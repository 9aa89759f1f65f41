"""Which neural-lam this is: its version, and its commit where it has one."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SECONDS = 20


def installed_neural_lam() -> dict[str, Any]:
    """Describe the neural-lam that would be imported, without importing it.

    Returns
    -------
    dict
        ``version`` (of a development install not reliable), ``commit`` and
        ``dirty`` (whether files were changed since), None where unknown.
    """
    commit, dirty = _of_checkout(_folder())
    if commit is None:
        commit = _of_installation()
    return {"version": _version("neural-lam"), "commit": commit, "dirty": dirty}


def versions() -> dict[str, str | None]:
    """Return the versions of torch and Lightning."""
    return {
        "torch": _version("torch"),
        "lightning": _version("pytorch-lightning") or _version("lightning"),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _folder() -> Path | None:
    spec = find_spec("neural_lam")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _of_checkout(folder: Path | None) -> tuple[str | None, bool | None]:
    """Ask git; a package that it does not track lies in it by chance."""
    if folder is None or not _git(folder, "ls-files", "__init__.py"):
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".")
    return commit or None, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _of_installation() -> str | None:
    """Read what pip keeps of an installation from git (PEP 610)."""
    try:
        text = metadata.distribution("neural-lam").read_text("direct_url.json")
        commit = json.loads(text or "{}")["vcs_info"]["commit_id"]
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    return str(commit)
