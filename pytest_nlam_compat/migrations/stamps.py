"""What a checkpoint says itself of who wrote it: our record, and upstream's.

No release up to now stamps its checkpoints. neural-lam #701, which is open,
would: an integer that counts the changes of the layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.evidence import Evidence
from pytest_nlam_compat.migrations.releases import RELEASES

# Upstream's own integer stamp (neural-lam #701, open).
UPSTREAM_STAMP = "neural_lam_checkpoint_version"
# Ours, in a file that was migrated: evidence of the origin is in pieces there.
STAMP = "nlam_compat"


def stamp(layout: Version, applied: Iterable[str]) -> dict[str, Any]:
    """Give what to write into a migrated file, so that it is recognised.

    Parameters
    ----------
    layout : Version
        Release whose layout the file has now.
    applied : iterable of str
        ``SavedRun.applied``.

    Returns
    -------
    dict
        One key and its value, to merge into the checkpoint.
    """
    return {STAMP: {"layout": str(layout), "migrations": list(applied)}}


def told_by_record(data: Mapping[str, Any]) -> Evidence | None:
    """Read the release from our record in a file.

    Parameters
    ----------
    data : mapping
        The tree of a checkpoint.

    Returns
    -------
    Evidence or None
        Of one release; None where there is no record, or it does not say.

    Raises
    ------
    CompatError
        The release is none that is known, or none at all.
    """
    record = data.get(STAMP)
    if not isinstance(record, Mapping):
        return None
    if "layout" in record:
        layout = record["layout"]
        _refuse_layout(layout)
        return Evidence(f"migrated to {layout} before", (layout,))
    if "stamp" in record:
        version = _version_in(record["stamp"])
        _refuse_unknown_release(version)
        if version in RELEASES:
            return Evidence(f"stamped by {version}", (version,))
    return None


def refuse_unknown_stamp(data: Mapping[str, Any]) -> None:
    """Refuse a file with upstream's stamp, which no known release writes.

    Parameters
    ----------
    data : mapping
        The tree of a checkpoint.

    Raises
    ------
    CompatError
        It has one.
    """
    if UPSTREAM_STAMP not in data:
        return
    found = data[UPSTREAM_STAMP]
    _refuse_no_number(found)
    raise CompatError(
        "The checkpoint was written by a neural-lam that this "
        "pytest-nlam-compat does not know.",
        facts={
            UPSTREAM_STAMP: _shown(found),
            "expected": f"none, as of each release up to {RELEASES[-1]}",
        },
        remedy="Upgrade pytest-nlam-compat.",
    )


def refuse_newer(found: object, newest: int | None) -> None:
    """Refuse a stamp of upstream's that the current code doesn't know.

    Parameters
    ----------
    found : object
        What the file has under ``neural_lam_checkpoint_version``.
    newest : int, optional
        ``neural_lam.migrations.CURRENT_CHECKPOINT_VERSION``; None where the
        current code has no migrations.

    Raises
    ------
    CompatError
        The stamp is newer, or none that neural-lam writes.
    """
    number = _refuse_no_number(found)
    if newest is not None and number <= newest:
        return
    raise CompatError(
        "The checkpoint was written by a newer neural-lam.",
        facts={
            UPSTREAM_STAMP: _shown(number),
            "newest that the installed neural-lam knows": newest
            if newest is not None
            else "none",
        },
        remedy="Upgrade neural-lam.",
    )


def _refuse_no_number(found: object) -> int:
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise CompatError(
        "The stamp of the checkpoint is no number.",
        facts={UPSTREAM_STAMP: _shown(found)},
        remedy="Give the file as neural-lam has written it.",
    )


def _refuse_layout(layout: Any) -> None:
    if layout in RELEASES:
        return
    try:
        parsed = Version(layout)
    except (InvalidVersion, TypeError):
        parsed = None
    if parsed is not None and parsed > Version(RELEASES[-1]):
        raise CompatError(
            "The checkpoint was migrated by a newer pytest-nlam-compat.",
            facts={"layout": parsed, "newest known": RELEASES[-1]},
            remedy="Upgrade pytest-nlam-compat.",
        )
    raise CompatError(
        "The record of a migration in the checkpoint is not as "
        "pytest-nlam-compat writes it.",
        facts={
            f"{STAMP}.layout": _shown(layout),
            "expected": f"a release, such as {RELEASES[-1]!r}",
        },
        remedy="Give the file as nlam-compat upgrade has written it, or that "
        "which it was made from.",
    )


def _version_in(stamp: Any) -> str:
    """Read the version in a stamp; that of a development install says little.

    It is derived from tags that its clone may not have.
    """
    try:
        return str(stamp["neural_lam"]["version"])
    except (TypeError, KeyError):
        return ""


def _refuse_unknown_release(version: str) -> None:
    """Refuse a file that a release wrote of which nothing is known here."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return
    made_from_tags = parsed.is_devrelease or parsed.local is not None
    if not made_from_tags and parsed > Version(RELEASES[-1]):
        raise CompatError(
            "The checkpoint was written by a neural-lam that this "
            "pytest-nlam-compat does not know.",
            facts={"stamped by": parsed, "newest known": RELEASES[-1]},
            remedy="Upgrade pytest-nlam-compat.",
        )


def _shown(value: object) -> str:
    try:
        return printable(repr(value))
    except (ValueError, RecursionError):
        # A number of more digits than Python prints, or a deep tree.
        return f"something of type {type(value).__name__}"
