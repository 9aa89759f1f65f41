"""What a release of neural-lam can be told by, compared with the one before."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import detect_origin
from pytest_nlam_compat.migrations.layout import check_weights
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    contains_instance_of,
)
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.references.release_evidence import (
    KINDS,
    WEIGHTS,
    FileChange,
    Marker,
    without_numbers,
)

Name = tuple[str, str]
"""A module, and a name in it as `has` of the probe reads it."""

_Names = Mapping[str, frozenset[str]]


def propose_marker(
    release: Version, before: Sequence[Name], now: Sequence[Name]
) -> Marker | None:
    """Choose a name that only one of two releases has.

    The first new one is best: it stays in what comes next. A class or function
    comes before its parameters, and arguments of the command line come last.
    `release` is the newer one; for both, see `probe.inventory`.
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
    """Compare the checkpoints of the cases that two releases have.

    A name counts if each file of one release has it, and no file of the other.
    Of weights it is enough if one file has it: each model has its own.
    """
    cases = [case for case in before.cases if case in now.cases]
    old, new = (
        [_names_of(checkpoint) for checkpoint in _checkpoints(archive, cases)]
        for archive in (before, now)
    )
    changes = {}
    for kind in KINDS:
        change = FileChange(_only(kind, new, old), _only(kind, old, new))
        if change.added or change.removed:
            changes[kind] = change
    return changes


def ambiguous_cases(archive: ReleaseArchive) -> list[str]:
    """Name the cases whose files may be of several releases.

    `nlam-compat upgrade` asks for the release of such a file.

    Raises
    ------
    CompatError
        Something excludes the release that wrote a file.
    """
    release = str(archive.release)
    found = []
    checkpoints = _checkpoints(archive, archive.cases)
    for case, checkpoint in zip(archive.cases, checkpoints, strict=True):
        try:
            detect_origin(checkpoint.data, release)
        except CompatError as error:
            raise CompatError(
                f"The checkpoints of neural-lam {release} are detected as "
                "those of other releases.",
                facts={"case": case, "cause": error.what, **error.facts},
                remedy="Correct migrations/origin.py, and run this again.",
            ) from None
        try:
            detect_origin(checkpoint.data)
        except CompatError:
            found.append(case)
    return found


def raise_on_unknown_layout(archive: ReleaseArchive) -> None:
    """Refuse weights that `upgrade` would refuse to write for the release."""
    checkpoints = _checkpoints(archive, archive.cases)
    for case, checkpoint in zip(archive.cases, checkpoints, strict=True):
        data = checkpoint.data
        try:
            check_weights(
                data["state_dict"], data["hyper_parameters"], archive.release
            )
        except CompatError as error:
            raise CompatError(
                "migrations/layout.py does not have the weights of neural-lam "
                f"{archive.release}, so that no file could be upgraded to it.",
                facts={"case": case, "cause": error.what, **error.facts},
                remedy="Add what has another name to RENAMED in "
                "pytest_nlam_compat/migrations/layout.py, and what is new or "
                "gone to its table. Then run this again.",
            ) from None


def _checkpoints(
    archive: ReleaseArchive, cases: Iterable[str]
) -> Iterator[Checkpoint]:
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            path = Path(folder) / f"{case}.ckpt"
            path.write_bytes(archive.read(case, "checkpoint.ckpt"))
            with read_checkpoint(path) as checkpoint:
                yield checkpoint


def _names_of(checkpoint: Checkpoint) -> _Names:
    """Return the names of each kind in a file; `args` only if it has some."""
    table: dict[str, Any] = dict(checkpoint.data["hyper_parameters"])
    classes = {each.path for each in checkpoint.globals}
    names = {
        "hyper_parameters": frozenset(table),
        WEIGHTS: frozenset(map(without_numbers, checkpoint.data["state_dict"])),
        "classes": frozenset(
            name for name in classes if contains_instance_of(table, name)
        ),
    }
    args = table.get("args")
    if isinstance(args, InertObject) and args.attributes:
        names["args"] = frozenset(map(str, args.attributes))
    return names


def _only(
    kind: str, these: Sequence[_Names], others: Sequence[_Names]
) -> frozenset[str]:
    """Return the names of a kind that these files have, and no other."""
    have = [names[kind] for names in these if kind in names]
    lack = [names[kind] for names in others if kind in names]
    if not have or not lack:
        return frozenset()
    each = frozenset.union if kind == WEIGHTS else frozenset.intersection
    return each(*have).difference(*lack)
