"""Which release wrote a checkpoint.

No release writes its version into a checkpoint, so the answer rests on
evidence, which is always shown with it. A stamp, where there is one, is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.evidence import (
    Evidence,
    evidence_of_prefix,
    other_evidence,
)
from pytest_nlam_compat.migrations.prefixes import (
    FIRST_WITH_PREFIX,
    PREFIX,
    has_prefix,
    refuse_part,
)
from pytest_nlam_compat.migrations.releases import RELEASES
from pytest_nlam_compat.migrations.stamps import (
    refuse_unknown_stamp,
    told_by_record,
)
from pytest_nlam_compat.migrations.wrapping import refuse_wrapped

_MOST_SHOWN = 5


@dataclass(frozen=True)
class Origin:
    """The release that wrote a checkpoint, and why we think so.

    Attributes
    ----------
    release : str
        For example ``"0.6.0"``.
    evidence : tuple of Evidence
        What the answer rests on.
    """

    release: str
    evidence: tuple[Evidence, ...]

    @property
    def version(self) -> Version:
        """The release as a version."""
        return Version(self.release)


def detect_origin(data: Mapping[str, Any]) -> Origin:
    """Tell from a checkpoint which release wrote it.

    Parameters
    ----------
    data : mapping
        The whole tree of a checkpoint, as ``Checkpoint.data``.

    Returns
    -------
    Origin

    Raises
    ------
    CompatError
        There are no weights under ``state_dict``; the evidence leaves several
        releases, or none; the weights stand where no release has them; or a
        stamp is none of a release, or of a version of this package, that is
        known here.
    """
    names = _names(data)
    refuse_unknown_stamp(data)
    told = told_by_record(data)
    if told is not None:
        return Origin(told.releases[0], (told,))
    refuse_part(names)
    refuse_wrapped(names)
    others = tuple(other_evidence(names, data.get("hyper_parameters")))
    evidence = (evidence_of_prefix(names), *others)
    left = _left(evidence)
    if len(left) != 1:
        raise _undecided(evidence, left, _may_be_a_part(names, others))
    return Origin(left[0], evidence)


def _names(data: Mapping[str, Any]) -> list[str]:
    """Give the names of the weights; refuse what has none."""
    remedy = (
        "Give a checkpoint that neural-lam's training has written. Of weights "
        "alone, save them as the entry state_dict of a dict."
    )
    if "state_dict" not in data:
        found = [printable(str(key)) for key in list(data)[:_MOST_SHOWN]]
        more = len(data) - len(found)
        if more:
            found.append(f"{more} more")
        raise CompatError(
            "The file holds no state_dict.",
            facts={"found": ", ".join(found) or "nothing"},
            remedy=remedy,
        )
    weights = data["state_dict"]
    if not isinstance(weights, Mapping):
        raise CompatError(
            "The state_dict of the file is no table of weights.",
            facts={"found": f"something of type {type(weights).__name__}"},
            remedy=remedy,
        )
    if not weights:
        raise CompatError(
            "The state_dict of the file is empty.",
            facts={"expected": "the weights of a model"},
            remedy=remedy,
        )
    return [str(name) for name in weights]


def _left(evidence: tuple[Evidence, ...]) -> list[str]:
    return [
        release
        for release in RELEASES
        if all(release in found.releases for found in evidence)
    ]


def _may_be_a_part(names: list[str], others: tuple[Evidence, ...]) -> bool:
    """Tell whether but for the prefix all would fit the first that has one."""
    return not has_prefix(names) and str(FIRST_WITH_PREFIX) in _left(others)


def _undecided(
    evidence: tuple[Evidence, ...], left: list[str], part: bool
) -> CompatError:
    facts = {found.seen: found.span for found in evidence}
    facts["left"] = ", ".join(left) or "none"
    remedy = (
        "Say which one wrote it with --from, such as --from "
        f"{left[-1] if left else RELEASES[-1]}."
    )
    if part:
        # The names of a predictor are those of the whole model before.
        facts["or"] = (
            f"the predictor of {FIRST_WITH_PREFIX} alone, without the prefix "
            f"{PREFIX!r}"
        )
        put = f"put {PREFIX!r} before each name of the state_dict, and save it."
        remedy = (
            f"{remedy} If it is the predictor alone, {put}"
            if left
            else f"{put[0].upper()}{put[1:]}"
        )
    return CompatError(
        "Several releases of neural-lam may have written this checkpoint."
        if left
        else "The checkpoint contradicts itself on the release that wrote it.",
        facts=facts,
        remedy=remedy,
    )
