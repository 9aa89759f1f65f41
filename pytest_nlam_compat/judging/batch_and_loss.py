"""Judge what shows in training only: the batch and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import difference_facts, dtype_name
from pytest_nlam_compat.numerics.comparison import compare, worst
from pytest_nlam_compat.numerics.tolerances import (
    BATCH,
    LOSS,
    LOSS_FLOAT32_WEIGHTS,
    allowed,
)
from pytest_nlam_compat.references.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def judge_batch(subject: ReferenceUnderTest) -> float:
    """Compare the batch that the current code makes with the recorded one.

    Returns the largest share of the tolerance that is used.

    Raises
    ------
    CompatError
        The code can't make one, or it differs: where most.
    """
    reference, batch = subject.reference, subject.batch()
    differences = []
    for name, expected in reference.group("batch").items():
        found = batch[name]
        for what, obtained, wanted in (
            ("shape", tuple(found.shape), tuple(expected.shape)),
            ("precision", dtype_name(found.dtype), dtype_name(expected.dtype)),
        ):
            if obtained != wanted:
                facts = {"expected": wanted, "obtained": obtained}
                raise _batch_error(
                    reference, {f"{what} differs": name, **facts}
                )
        difference = compare(
            found,
            expected,
            allowed(BATCH, expected),
            output=name,
            variables=_columns(reference, name),
        )
        differences.append(difference)
    most = worst(differences)
    if most.share > 1:
        raise _batch_error(reference, difference_facts(most, BATCH))
    return most.share


def _batch_error(reference: Reference, facts: dict[str, object]) -> CompatError:
    return CompatError(
        f"{reference.id}: the current code makes another batch from the same "
        "series.",
        facts=facts,
        remedy="Check the order and the length of the forcing window, what is "
        "standardized where, and casts: old weights expect the old columns.",
    )


def _columns(reference: Reference, name: str) -> list[str] | None:
    """Name the columns of a part of the batch."""
    if name in ("init_states", "target_states"):
        return list(reference.dataset.names["state"])
    return forcing_columns(reference) if name == "forcing" else None


def forcing_columns(reference: Reference) -> list[str]:
    """Name the columns of the forcing, window by window of each feature."""
    features = reference.dataset.names["forcing"]
    width = reference.group("batch")["forcing"].shape[-1]
    return [
        f"{feature} (window {index})"
        for feature in features
        for index in range(width // len(features))
    ]


def judge_loss(subject: ReferenceUnderTest) -> float:
    """Compare the training loss on the recorded batch with the recorded one.

    Returns the share of the tolerance that is used.

    Raises
    ------
    CompatError
        The code can't compute it, or it differs.
    """
    return compare_loss(subject.reference, subject.loss())


def compare_loss(reference: Reference, loss: Tensor) -> float:
    """Compare a loss, (1,) float64, with the recorded one."""
    expected = reference.group("golden64")["loss"]
    rounded = reference.description.get("loss_weights") == "float32"
    row = LOSS_FLOAT32_WEIGHTS if rounded else LOSS
    difference = compare(loss, expected, allowed(row, expected), output="loss")
    if difference.share > 1:
        raise CompatError(
            f"{reference.id}: the training loss on the recorded batch has "
            "changed.",
            facts={
                "obtained": f"{difference.obtained:.12g}",
                "expected": f"{difference.expected:.12g}",
                "allowed": f"{difference.allowed:.2e}",
            },
            remedy="If test_outputs passes, the loss function itself has "
            "changed: its weights, its mask or its mean. Resumed training "
            "would optimize something else.",
        )
    return difference.share
