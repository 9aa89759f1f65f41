"""What a checkpoint says itself about the release of its layout.

No release up to now stamps its checkpoints. neural-lam #701, which is open,
would: an integer that counts the changes of the layout. Ours is in files that
were migrated, where evidence of the origin is in pieces, and in those that
`ProvenanceStamp` or ``nlam-compat stamp`` has stamped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.releases import RELEASES

STAMP = "nlam_compat"
UPSTREAM_STAMP = "neural_lam_checkpoint_version"
_UNKNOWN_WRITER = (
    "The checkpoint was written by a neural-lam that this pytest-nlam-compat "
    "does not know."
)
_UPGRADE = "Upgrade pytest-nlam-compat."


def stamp(layout: Version, applied: Iterable[str]) -> dict[str, Any]:
    """Return what to merge into a migrated file, so that it is recognised.

    `layout` is the release whose layout the file has now, and `applied` are
    the ids of the migrations.
    """
    return {STAMP: {"layout": str(layout), "migrations": list(applied)}}


def recorded_release(data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Read the release from our record in a file, and say where it stands.

    None if the tree of the checkpoint has no record, or that names no release.

    Raises
    ------
    CompatError
        The release is unknown, or not a release at all.
    """
    record = data.get(STAMP)
    if not isinstance(record, Mapping):
        return None
    if "layout" in record:
        layout = record["layout"]
        if layout not in RELEASES:
            raise _unknown_layout(layout)
        own = record.get("repository")
        names = [str(each) for each in own] if isinstance(own, list) else []
        more = f" with {printable(', '.join(names))}" if names else ""
        return layout, f"migrated to {layout}{more} before"
    try:
        found = str(record["stamp"]["neural_lam"]["version"])
    except (TypeError, KeyError):
        return None
    if found in RELEASES:
        return found, f"stamped by {found}"
    version = _version(found)
    # That of a development install comes from tags its clone may not have.
    from_tags = version and (version.is_devrelease or version.local is not None)
    if not from_tags and _is_newer(version):
        raise CompatError(
            _UNKNOWN_WRITER,
            facts={"stamped by": version, "newest known": RELEASES[-1]},
            remedy=_UPGRADE,
        )
    return None


def raise_on_upstream_stamp(data: Mapping[str, Any]) -> None:
    """Refuse a tree with neural-lam's own stamp: no known release writes it."""
    if UPSTREAM_STAMP in data:
        number = _upstream_number(data[UPSTREAM_STAMP])
        raise CompatError(
            _UNKNOWN_WRITER,
            facts={
                UPSTREAM_STAMP: _shown(number),
                "expected": f"none, as of each release up to {RELEASES[-1]}",
            },
            remedy=_UPGRADE,
        )


def refuse_newer(found: object, newest: int | None) -> None:
    """Refuse neural-lam's own stamp if the current code doesn't know it.

    `found` is what the file has, and `newest` the number that the current code
    gives to new files; None if it has no migrations.

    Raises
    ------
    CompatError
        The stamp is newer, or not a number.
    """
    number = _upstream_number(found)
    if newest is None or number > newest:
        known = "none" if newest is None else newest
        raise CompatError(
            "The checkpoint was written by a newer neural-lam.",
            facts={
                UPSTREAM_STAMP: _shown(number),
                "newest that the installed neural-lam knows": known,
            },
            remedy="Upgrade neural-lam.",
        )


def upstream_stamp(
    stamps: Mapping[str, Any], newest: int | None
) -> dict[str, int]:
    """Return neural-lam's own stamp of a file (#701): one entry, or none.

    Without it the current code's own loader would begin with its first
    migration. `newest` and errors are as in `refuse_newer`.
    """
    if UPSTREAM_STAMP not in stamps:
        return {}
    refuse_newer(stamps[UPSTREAM_STAMP], newest)
    return {UPSTREAM_STAMP: stamps[UPSTREAM_STAMP]}


def _upstream_number(found: object) -> int:
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise CompatError(
        "The stamp of the checkpoint is not a number.",
        facts={UPSTREAM_STAMP: _shown(found)},
        remedy="Pass the file as neural-lam has written it.",
    )


def _unknown_layout(layout: Any) -> CompatError:
    version = _version(layout)
    if _is_newer(version):
        return CompatError(
            "The checkpoint was migrated by a newer pytest-nlam-compat.",
            facts={"layout": version, "newest known": RELEASES[-1]},
            remedy=_UPGRADE,
        )
    return CompatError(
        "The record of a migration in the checkpoint is not as "
        "pytest-nlam-compat writes it.",
        facts={
            f"{STAMP}.layout": _shown(layout),
            "expected": f"a release, such as {RELEASES[-1]!r}",
        },
        remedy="Pass the file as nlam-compat upgrade has written it, or the "
        "one that it was made from.",
    )


def _version(text: Any) -> Version | None:
    try:
        return Version(text)
    except (InvalidVersion, TypeError):
        return None


def _is_newer(version: Version | None) -> bool:
    return version is not None and version > Version(RELEASES[-1])


def _shown(value: object) -> str:
    try:
        return printable(repr(value))
    except (ValueError, RecursionError):
        # A number of more digits than Python prints, or a deep tree.
        return f"something of type {type(value).__name__}"
