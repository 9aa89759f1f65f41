"""Which releases of neural-lam exist, by the package index or by git tags."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError


def on_index() -> list[Version]:
    """Return the releases that pip finds, by its own settings."""
    remedy = (
        "Check the network and pip's settings, or name a clone of neural-lam "
        "with --clone."
    )
    answer = _answer(
        sys.executable,
        *("-m", "pip", "index", "versions", "neural-lam"),
        "--disable-pip-version-check",
        remedy=remedy,
    )
    found = re.search(r"^Available versions: (.+)$", answer, re.MULTILINE)
    if found is None:
        raise CompatError(
            "The releases of neural-lam can't be listed.",
            facts={"expected": "Available versions: ...", "found": answer},
            remedy=remedy,
        )
    return _releases(found[1].split(", "))


def tagged(clone: Path) -> list[Version]:
    """Return the releases that a clone has tags of, as in ``v0.7.0``."""
    answer = _answer(
        *("git", "-C", str(clone), "tag", "--list"),
        remedy="Name a clone of neural-lam with --clone.",
    )
    found = _releases(answer.split())
    if not found:
        raise CompatError(
            f"{clone} has no tags of releases.",
            facts={"expected": "tags such as v0.7.0"},
            remedy="Fetch them: git fetch --tags.",
        )
    return found


def _releases(names: Iterable[str]) -> list[Version]:
    found = set()
    for name in names:
        try:
            version = Version(name)
        except InvalidVersion:
            continue
        if not version.is_prerelease and version.local is None:
            found.add(version)
    return sorted(found)


def _answer(*command: str, remedy: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        problem = done.stderr if done.returncode else ""
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise CompatError(
            "The releases of neural-lam can't be listed.",
            facts={
                "command": " ".join(command),
                "cause": problem.strip().splitlines()[-1],
            },
            remedy=remedy,
        )
    return done.stdout
