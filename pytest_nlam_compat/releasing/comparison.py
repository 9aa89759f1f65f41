"""What a release of neural-lam can be told by, compared with the one before."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import detect_origin
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    contains_instance_of,
)
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.references.release_evidence import (
    KINDS,
    FileChange,
    Marker,
)

Name = tuple[str, str]
"""A module, and a name in it as `has` of the probe reads it."""


def propose_marker(
    release: Version, before: Sequence[Name], now: Sequence[Name]
) -> Marker | None:
    """Choose a name that only one of two releases has.

    The first new one is best: it stays in what comes next. A class or function
    comes before its parameters, and arguments of the command line come last.

    Parameters
    ----------
    release : Version
        The newer one.
    before, now : sequence of (str, str)
        What the code of either has, see `adapters.inventory`.
    """
    modules = {module for module, _ in before} & {module for module, _ in now}
    added = [name for name in now if name not in set(before)]
    # A module that moved takes its names with it, and may move back.
    added.sort(key=lambda name: (name[0] not in modules, _kind(name[1])))
    gone = [name for name in before if name not in set(now)]
    for found, present in (added, True), (gone, False):
        for module, name in found:
            return Marker(str(release), module, name, present)
    return None


def _kind(name: str) -> int:
    if name.startswith("--"):
        return 2
    return int("(" in name)


def file_changes(
    before: ReleaseArchive, now: ReleaseArchive
) -> dict[str, FileChange]:
    """Compare the checkpoints of two releases.

    A name counts if each file of one release has it, and no file of the other.
    """
    old = [_names_of(checkpoint) for checkpoint in _checkpoints(before)]
    new = [_names_of(checkpoint) for checkpoint in _checkpoints(now)]
    changes = {}
    for kind in KINDS:
        change = FileChange(
            _only_of(_of(kind, new), _of(kind, old)),
            _only_of(_of(kind, old), _of(kind, new)),
        )
        if change.added or change.removed:
            changes[kind] = change
    return changes


def raise_on_unknown_origin(archive: ReleaseArchive) -> None:
    """Refuse an archive whose files are detected as written by others.

    Raises
    ------
    CompatError
    """
    release = str(archive.release)
    for case, checkpoint in zip(
        archive.cases, _checkpoints(archive), strict=True
    ):
        try:
            detect_origin(checkpoint.data)
            detect_origin(checkpoint.data, release)
        except CompatError as error:
            raise CompatError(
                f"The checkpoints of neural-lam {release} can't be told from "
                "those of other releases.",
                facts={"case": case, "cause": error.what, **error.facts},
                remedy="Teach migrations/origin.py what they can be told by.",
            ) from None


def _checkpoints(archive: ReleaseArchive) -> Iterator[Checkpoint]:
    with tempfile.TemporaryDirectory() as folder:
        for case in archive.cases:
            path = Path(folder) / f"{case}.ckpt"
            path.write_bytes(archive.read(case, "checkpoint.ckpt"))
            with read_checkpoint(path) as checkpoint:
                yield checkpoint


def _names_of(checkpoint: Checkpoint) -> dict[str, frozenset[str]]:
    """Return the names of each kind in a file; `args` only if it has some."""
    table: dict[str, Any] = dict(checkpoint.data["hyper_parameters"])
    classes = {each.path for each in checkpoint.globals}
    names = {
        "hyper_parameters": frozenset(table),
        "classes": frozenset(
            name for name in classes if contains_instance_of(table, name)
        ),
    }
    args = table.get("args")
    if isinstance(args, InertObject) and args.attributes:
        names["args"] = frozenset(map(str, args.attributes))
    return names


def _of(
    kind: str, files: Collection[Mapping[str, frozenset[str]]]
) -> list[frozenset[str]]:
    return [names[kind] for names in files if kind in names]


def _only_of(
    these: Sequence[frozenset[str]], others: Sequence[frozenset[str]]
) -> frozenset[str]:
    if not these or not others:
        return frozenset()
    return these[0].intersection(*these) - frozenset[str]().union(*others)
