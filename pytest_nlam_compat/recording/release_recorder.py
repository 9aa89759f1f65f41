"""Record all cases of a release into its archive."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from packaging.version import Version

import pytest_nlam_compat
from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.probe import probe, select_adapter
from pytest_nlam_compat.adapters.silence import silenced
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.torch_settings import reproducible
from pytest_nlam_compat.recording.cases import Case, cases_of
from pytest_nlam_compat.recording.recorder import record
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.release_archive import (
    ReleaseArchive,
    write_archive,
)

Progress = Callable[[str], None]
"""Receives a line for each case."""

_STACK = (
    "neural-lam",
    "torch",
    "pytorch-lightning",
    "torch-geometric",
    "numpy",
)


def record_release(
    release: Version, fixtures: Path, progress: Progress
) -> Path:
    """Record a release, which must be the installed one.

    The archive is written to `fixtures` and returned.

    Raises
    ------
    CompatError
        If another release is installed, if it is recorded already, or if a case
        is too weak.
    """
    archive = fixtures / registry.archive_name(release)
    listed = registry.read(fixtures / "registry.txt").get(release)
    if archive.exists() or listed is not None:
        facts: dict[str, object] = {"file": archive}
        restore = ""
        if not archive.exists():
            facts = {"listed": f"sha256 {listed}", "missing": archive}
            restore = "Restore the archive from git. "
        raise CompatError(
            f"neural-lam {release} is recorded already. References are "
            "frozen and never overwritten.",
            facts=facts,
            remedy=f"{restore}If it was never published, delete it and its line"
            " in registry.txt by hand.",
        )
    recorded, void = _record_cases(release, cases_of(release), progress)
    index = {
        "release": str(release),
        "void": void,
        "provenance": provenance(f"record {release}"),
    }
    try:
        write_archive(archive, index, recorded)
        digest = registry.sha256_of(archive)
        registry.add(fixtures / "registry.txt", release, digest)
    except BaseException:
        # One that is not listed would stop every run.
        archive.unlink(missing_ok=True)
        raise
    return archive


def add_missing_cases(
    release: Version, fixtures: Path, progress: Progress
) -> Path:
    """Record the cases that the archive of the installed release lacks.

    The files of the others keep their bytes. Only for an archive that has not
    been published: its hash changes.

    Raises
    ------
    CompatError
        If the archive is not the listed one or has all cases, if another
        release is installed, or if a case is too weak.
    """
    path = fixtures / registry.archive_name(release)
    before = ReleaseArchive(path)
    listed = registry.read(fixtures / "registry.txt").get(release)
    if registry.sha256_of(path) != listed:
        raise CompatError(
            f"{path} is not the archive that is listed in registry.txt.",
            facts={"listed": f"sha256 {listed}"},
            remedy="Restore both from git.",
        )
    known = {*before.cases, *before.void}
    missing = [case for case in cases_of(release) if case.name not in known]
    if not missing:
        raise CompatError(
            f"{path} has all cases.",
            facts={"cases": ", ".join(sorted(known))},
            remedy="Add a case to recording/cases.py first.",
        )
    recorded, void = _record_cases(release, missing, progress)
    index = before.index | {
        "void": before.void | void,
        "added": [
            *before.index.get("added", []),
            {
                "cases": sorted(recorded),
                **provenance(f"record {release} --add"),
            },
        ],
    }
    kept = {
        case: {name: before.read(case, name) for name in before.names(case)}
        for case in before.cases
    }
    before.close()
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    write_archive(part, index, kept | recorded)
    digest = registry.sha256_of(part)
    part.replace(path)
    registry.replace(fixtures / "registry.txt", listed, digest)
    return path


def _record_cases(
    release: Version, cases: Iterable[Case], progress: Progress
) -> tuple[dict[str, dict[str, bytes]], dict[str, str]]:
    """Return the members of each case, and why the others are void."""
    adapter = installed(release)
    recorded: dict[str, dict[str, bytes]] = {}
    void: dict[str, str] = {}
    for case in cases:
        if str(release) in case.void:
            void[case.name] = case.void[str(release)]
            progress(f"{case.name}: void, {void[case.name]}")
            continue
        started = time.monotonic()
        with (
            tempfile.TemporaryDirectory() as folder,
            quietly(),
            reproducible(),
        ):
            members = record(case, adapter, Path(folder))
        recorded[case.name] = members
        size = sum(len(content) for content in members.values()) / 1000
        seconds = time.monotonic() - started
        progress(f"{case.name}: {size:.0f} kB unpacked, {seconds:.1f} s")
    return recorded, void


def installed(release: Version) -> Adapter:
    """Return the adapter of a release; CompatError if it is not installed."""
    current = probe()
    if current.version != str(release):
        raise CompatError(
            f"neural-lam {release} is not the installed release.",
            facts={"installed": current.version, "path": current.path},
            remedy=f"Run `nox -s record -- {release}`, which installs that"
            " release separately.",
        )
    return select_adapter(current)


def provenance(command: str) -> dict[str, Any]:
    """Say with what something is recorded, and when, but not where."""
    return {
        "command": f"nlam-compat {command}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "tool": pytest_nlam_compat.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in _STACK},
    }


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence neural-lam and Lightning, so that only our progress shows."""
    with silenced(), contextlib.redirect_stdout(io.StringIO()):
        yield
