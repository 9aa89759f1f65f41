"""What each release of neural-lam can be told by, in code and in files.

`FILE_NAME` is a table, one entry a release::

    "0.7.0": {
     "code": {"module": "neural_lam.train_model", "name": "build_predictor",
              "present": true},
     "files": {"args": {"added": ["runs_root"], "removed": []}}
    }

`code` is a name that the release was the first to have, or to lack: as in
``build_predictor``, ``ForecasterModule.forward``, ``build_predictor(config)``
for a parameter, or ``--loss`` for an argument of the command line. `files` is
what all checkpoints of the release have and none of the release before has, or
the other way round; of weights, which differ from model to model, what some
have. `nlam-compat release` adds the entry of a new release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.registry import data_folder

FILE_NAME = "release_evidence.json"
WEIGHTS = "weights"
KINDS = {
    "args": "args",
    "hyper_parameters": "hyper-parameters",
    "classes": "classes in the hyper-parameters",
    WEIGHTS: "names of weights",
}
"""What files can be told by, and how people call it."""


class Marker(NamedTuple):
    """A name that a release is the first to have, or to lack."""

    release: str
    module: str
    name: str
    present: bool

    def __str__(self) -> str:
        where = f"{self.module}.".removeprefix("neural_lam.")
        return f"{'' if self.present else 'the absence of '}{where}{self.name}"


class FileChange(NamedTuple):
    """Names of one kind that came and went with a release."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReleaseEvidence:
    """What a release can be told by.

    Attributes
    ----------
    marker : Marker or None
        None if its code has and lacks what that of the release before does.
    files : mapping of str to FileChange
        By kind, see `KINDS`.
    """

    marker: Marker | None = None
    files: Mapping[str, FileChange] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the entry of the table."""
        code = None
        if self.marker:
            code = self.marker._asdict()
            del code["release"]
        files = {
            kind: {
                "added": sorted(change.added),
                "removed": sorted(change.removed),
            }
            for kind, change in self.files.items()
        }
        return {"code": code, "files": files}


def published(folder: Path | None = None) -> dict[Version, ReleaseEvidence]:
    """Return the table that lies beside a registry; by default, our own.

    Raises
    ------
    CompatError
        As `read` does; or a release has references and no entry, so that these
        would be left out as newer than any code.
    """
    folder = folder or data_folder()
    table = read(folder / FILE_NAME)
    listed = registry.read(folder / registry.FILE_NAME)
    if unknown := [str(release) for release in listed if release not in table]:
        raise CompatError(
            "There are references of releases that nothing can be told by.",
            facts={
                "releases": ", ".join(unknown),
                "expected": f"an entry for each in {folder / FILE_NAME}",
            },
            remedy="Add references with `nlam-compat release`, which writes "
            "the entry.",
        )
    return table


def read(path: Path) -> dict[Version, ReleaseEvidence]:
    """Return what each release can be told by, in their order.

    Raises
    ------
    CompatError
        The file can't be read, or is no such table.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = {
            Version(release): _evidence(release, **entry)
            for release, entry in table.items()
        }
    # Whatever a damaged table makes of these: its cause is all that counts.
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
    ) as cause:
        raise CompatError(
            f"What releases can be told by can't be read: {path}.",
            facts={"cause": cause},
            remedy="Restore it from git in a checkout, or install "
            "pytest-nlam-compat again.",
        ) from None
    return dict(sorted(found.items()))


def write(path: Path, table: Mapping[Version, ReleaseEvidence]) -> None:
    """Write the table."""
    entries = {str(one): table[one].plain() for one in sorted(table)}
    text = json.dumps(entries, indent=1) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def without_numbers(name: str) -> str:
    """Return the name of a weight without counts of layers and levels.

    >>> without_numbers("processor.module_3.edge_mlp.0.weight")
    'processor.module_#.edge_mlp.#.weight'
    """
    return re.sub(r"\d+", "#", name)


def names_of_releases(
    table: Mapping[Version, ReleaseEvidence], kind: str
) -> dict[Version, frozenset[str]]:
    """Return the telling names of a kind that files of each release have.

    A name that a release removes and none added was there from the start.
    """
    changes = {one: each.files.get(kind) for one, each in table.items()}
    known = [change for change in changes.values() if change]
    added = _union(change.added for change in known)
    names = _union(change.removed for change in known) - added
    found = {}
    for release, change in changes.items():
        if change:
            names = (names - change.removed) | change.added
        found[release] = names
    return found


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _evidence(
    release: str,
    code: Mapping[str, Any] | None,
    files: Mapping[str, Mapping[str, list[str]]],
) -> ReleaseEvidence:
    if unknown := files.keys() - KINDS:
        raise ValueError(f"{release} has unknown kinds: {', '.join(unknown)}")
    marker = None if code is None else Marker(release, **code)
    changes = {
        kind: FileChange(frozenset(each["added"]), frozenset(each["removed"]))
        for kind, each in files.items()
    }
    return ReleaseEvidence(marker, changes)
