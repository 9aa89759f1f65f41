"""Find out, before any check, whether the current code can be driven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.adapters.binding import ApiChangedError
from pytest_nlam_compat.checks.failures import silence
from pytest_nlam_compat.references.pins import PinnedReference

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.selection import Selection
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# In the precision in which the checks need each first.
_USES: tuple[Callable[[ReferenceUnderTest], object], ...] = (
    lambda subject: subject.outputs(
        subject.migrated_model(torch.float32), torch.float32
    ),
    lambda subject: subject.native_model(torch.float64),
    lambda subject: subject.batch(),
    lambda subject: subject.loss(torch.float64),
)


def drive_once(
    selection: Selection, folder: Path, index: int = 0, count: int = 1
) -> None:
    """Use the current code once in each way that the checks do.

    An API that can't be driven is one error, not one for each reference. What
    else fails is left to the checks. Of several processes, the one with an
    index tries its part of the ways.

    Raises
    ------
    ApiChangedError
    """
    # Of models that `args` describe, and of each class that they can't.
    kinds: dict[str | None, Reference] = {}
    for reference in sorted(
        set(selection.checked) & set(selection.migrated),
        key=lambda r: (r.release, r.id),
        reverse=True,
    ):
        # It may be large.
        if isinstance(reference, PinnedReference):
            continue
        stored = reference.description["predictor"] or {}
        kinds.setdefault(stored.get("name"), reference)
    for reference in list(kinds.values())[index % count :: count]:
        place = folder / reference.id
        place.mkdir()
        subject = selection.subject(reference, place)
        with silence():
            for use in _USES:
                try:
                    use(subject)
                except ApiChangedError:
                    raise
                # Whatever a working tree raises: the check that does the same
                # raises it again, and shows its cause.
                except Exception:
                    continue
        selection.driven[reference.id] = subject
