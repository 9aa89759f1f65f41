"""What the importable neural_lam is, found by asking it for what it offers.

`neural_lam.__version__` of a development install is derived from git tags
and not reliable, so nothing here decides by it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError


class Marker(NamedTuple):
    """A name that tells a release from the one before.

    Attributes
    ----------
    release : str
    module, name : str
    present : bool
        Whether the release has the name, or is the first without it.
    """

    release: str
    module: str
    name: str
    present: bool


# Newest first. What stands between two releases (a development install)
# counts as the older one. 0.7.0: PR #688; 0.6.0: graphs indexed by node
# counts; 0.5.0: PR #113.
MARKERS = (
    Marker("0.7.0", "neural_lam.train_model", "build_predictor", True),
    Marker("0.6.0", "neural_lam.utils", "zero_index_g2m", True),
    Marker("0.5.0", "neural_lam.config", "DatastoreKindStr", False),
)
OLDEST = Version("0.4.0")


@dataclass(frozen=True)
class CurrentCode:
    """The importable neural_lam.

    Attributes
    ----------
    version : str
        What its metadata says; shown, never relied on alone.
    path : pathlib.Path
        Folder of the package.
    release : Version
        Newest release whose checkpoints it claims to load.
    evidence : str
        Why that release.
    """

    version: str
    path: Path
    release: Version
    evidence: str


def has(module: str, name: str) -> bool:
    """Whether an importable module has an attribute.

    Parameters
    ----------
    module, name : str
    """
    try:
        if importlib.util.find_spec(module) is None:
            return False
    except ModuleNotFoundError:
        # Not even the package that would hold it is there.
        return False
    return hasattr(importlib.import_module(module), name)


def probe() -> CurrentCode:
    """Import neural_lam and find out what it is.

    Returns
    -------
    CurrentCode

    Raises
    ------
    CompatError
        If there is no neural_lam, or its import fails.
    """
    if importlib.util.find_spec("neural_lam") is None:
        raise CompatError(
            "There is no neural_lam to check: it can't be imported.",
            remedy="Install the code under test in this environment, for "
            "example with `pip install -e .` in a clone of neural-lam.",
        )
    try:
        package = importlib.import_module("neural_lam")
        importlib.import_module("neural_lam.train_model")
        if package.__file__ is None:
            raise ImportError("the folder has no __init__.py")
    # Whatever a working tree raises while it is imported is its cause; a
    # script that is imported by mistake leaves by SystemExit.
    except (Exception, SystemExit) as cause:
        raise CompatError(
            "neural_lam is installed but its import fails.",
            facts={
                "path": _folder("neural_lam"),
                "cause": f"{type(cause).__name__}: {cause}",
            },
            remedy="`python -c 'import neural_lam.train_model'` shows the "
            "whole story; mend that first.",
        ) from cause
    version = _metadata_version()
    release, evidence = _release(version)
    return CurrentCode(
        version=version,
        path=Path(package.__file__).parent,
        release=release,
        evidence=evidence,
    )


def _folder(module: str) -> str:
    spec = importlib.util.find_spec(module)
    folders = spec.submodule_search_locations if spec else None
    return ", ".join(folders or ["unknown"])


def _metadata_version() -> str:
    try:
        return importlib.metadata.version("neural-lam")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _release(version: str) -> tuple[Version, str]:
    """Return the newest release that markers or metadata vouch for.

    The metadata only ever raises the answer: a pull request that renames a
    marker must not silence the references of the newest release.
    """
    release, evidence = OLDEST, "the absence of later markers"
    for marker in MARKERS:
        if has(marker.module, marker.name) is marker.present:
            module = marker.module.removeprefix("neural_lam.")
            absence = "" if marker.present else "the absence of "
            release = Version(marker.release)
            evidence = f"{absence}{module}.{marker.name}"
            break
    try:
        claimed = Version(version)
    except InvalidVersion:
        return release, evidence
    newest = Version(MARKERS[0].release)
    if release < newest <= claimed:
        return newest, f"its version, {version}"
    return release, evidence
