"""What was compared with what, and how: both sides of a report."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat import __version__
from pytest_nlam_compat.references.registry import sha256_of
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.reports.results import (
    ReferenceResult,
    Results,
    no_results,
)
from pytest_nlam_compat.reports.summary import (
    MIGRATIONS,
    NEWER,
    RECORDED_ROUTES,
    SOURCE,
    UNREAD,
)
from pytest_nlam_compat.under_test.git_folder import GitFolder

if TYPE_CHECKING:
    import pytest

    from pytest_nlam_compat.adapters.probe import CurrentCode
    from pytest_nlam_compat.checks.selection import Selection

# What the numbers of a model depend on, besides torch.
_PACKAGES = ("numpy", "pytorch-lightning", "torch-geometric")


def facts_of(config: pytest.Config, selection: Selection) -> Results:
    """Return the results of a run that has checked nothing yet."""
    void = {
        (r, case, reason): selection.store.open(r)
        for (r, case), reason in selection.void.items()
    }
    run = {(r.release, r.case, ""): r.archive for r in selection.checked}
    return {
        **no_results(),
        "shards": [str(selection.shard)] if selection.shard else [],
        "plugin": {
            "version": __version__,
            "registry": f"sha256:{sha256_of(selection.store.registry_file)}",
            "references": selection.store.description,
        },
        "current": of_current_code(selection.adapter.current),
        "settings": of_settings(selection.device),
        "selected": of_selection(config, selection),
        "notices": list(selection.notices),
        "references": [
            ReferenceResult(
                id=f"{release}-{case}",
                release=str(release),
                case=case,
                void=reason,
                recorded=of_recording(archive, case),
                checks=[],
            )
            for (release, case, reason), archive in sorted(
                (void | run).items(), key=lambda one: one[0]
            )
        ],
    }


def of_current_code(current: CurrentCode) -> dict[str, str]:
    """Tell which code is checked, by its release, its commit and its content.

    ``content`` is one hash over all of its Python files: the same code has it
    wherever it is installed, committed or not.
    """
    git = GitFolder(current.path)
    commit = tree = changed = None
    # An environment may lie within a clone of something else.
    if shutil.which("git") and git.ask("ls-files", "__init__.py"):
        commit = git.ask("rev-parse", "HEAD")
        tree = git.ask("rev-parse", "HEAD:./")
        changed = git.ask("status", "--porcelain", "--", ".")
    return _known(
        {
            "release": str(current.release),
            "version": current.version,
            "detected by": current.evidence,
            "path": str(current.path),
            "content": f"sha256:{_content(current.path)}",
            "commit": commit or "",
            "tree": tree or "",
            "uncommitted changes": "yes" if changed else "",
        }
    )


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\n{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def of_settings(device: torch.device) -> dict[str, str]:
    """Name what models are run on, and by which settings of torch."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        **{name: _version(name) for name in _PACKAGES},
        "device": str(device),
    }
    if device.type == "cuda":
        found["GPU"] = torch.cuda.get_device_name(device)
        found["CUDA"] = torch.version.cuda or ""
        cublas = os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
        found["CUBLAS_WORKSPACE_CONFIG"] = cublas
    # As `torch_settings.reproducible` sets it.
    found["models run with"] = (
        "1 thread, deterministic algorithms, float32 products without TF32"
    )
    return _known(found)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def of_selection(config: pytest.Config, selection: Selection) -> dict[str, str]:
    """Tell by which options references and checks were chosen."""
    pattern = config.getoption("nlam_compat_case")
    newer = ", ".join(map(str, selection.newer))
    setup, migrations = selection.setup, selection.migrations
    return _known(
        {
            "releases": config.getoption("nlam_compat_release"),
            "cases": "" if pattern == "*" else pattern,
            "-k": config.getoption("keyword"),
            "-m": config.getoption("markexpr"),
            NEWER: newer,
            RECORDED_ROUTES: str(selection.native.release),
            MIGRATIONS: ", ".join(step.id for step in migrations),
            SOURCE: setup.source,
            # The hook may read the same folder.
            UNREAD: "" if migrations else setup.unread_default(),
        }
    )


def of_recording(archive: ReleaseArchive, case: str) -> dict[str, str]:
    """Tell when, by which command and with which versions it was recorded."""
    index = archive.index
    added = [one for one in index.get("added", ()) if case in one["cases"]]
    facts = dict((added or [index.get("provenance", {})])[0])
    versions = facts.pop("versions", {})
    facts.pop("cases", None)
    return _known({k: str(v) for k, v in (facts | versions).items()})


def _known(facts: dict[str, str]) -> dict[str, str]:
    return {label: fact for label, fact in facts.items() if fact}
