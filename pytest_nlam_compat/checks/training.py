"""What shows in training only: the batch and the loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pytest_nlam_compat.checks.judging import facts
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.comparison import compare, worst
from pytest_nlam_compat.numerics.tolerances import (
    BATCH,
    LOSS,
    LOSS_FLOAT32_WEIGHTS,
    allowed,
)
from pytest_nlam_compat.references.reference import Reference


def judge_batch(reference: Reference, batch: Mapping[str, Tensor]) -> float:
    """Insist that a batch equals the recorded one.

    Parameters
    ----------
    reference : Reference
    batch : mapping of str to Tensor
        ``init_states`` (B, 2, N, d), ``target_states`` (B, T, N, d),
        ``forcing`` (B, T, N, f * window), ``target_times`` (B, T).

    Returns
    -------
    float
        Largest share of the tolerance that was used.

    Raises
    ------
    CompatError
        Where it differs most.
    """
    recorded = reference.group("batch")
    differences = {}
    for name, expected in recorded.items():
        found = batch[name]
        if found.shape != expected.shape:
            raise _another(
                reference,
                {
                    "of another shape": name,
                    "expected": tuple(expected.shape),
                    "obtained": tuple(found.shape),
                },
            )
        if found.dtype != expected.dtype:
            raise _another(
                reference,
                {
                    "of another precision": name,
                    "expected": str(expected.dtype).removeprefix("torch."),
                    "obtained": str(found.dtype).removeprefix("torch."),
                },
            )
        differences[name] = compare(
            found,
            expected,
            allowed(BATCH, expected),
            output=name,
            variables=_columns(reference, name, expected.shape[-1]),
        )
    most = worst(differences)
    if most.share > 1:
        raise _another(reference, facts(most, BATCH))
    return most.share


def _another(reference: Reference, facts: dict[str, object]) -> CompatError:
    return CompatError(
        f"{reference.id}: the current code makes another batch of the same "
        "series.",
        facts=facts,
        remedy="Look at the order in which the forcing window is stacked, at "
        "its extent, at what is standardised where, and at casts: old weights "
        "expect the old columns.",
    )


def judge_loss(reference: Reference, loss: Tensor) -> float:
    """Insist that the training loss is the recorded one.

    Parameters
    ----------
    reference : Reference
    loss : Tensor
        (1,) float64.

    Returns
    -------
    float
        Share of the tolerance that was used.

    Raises
    ------
    CompatError
        With both losses.
    """
    expected = reference.group("golden64")["loss"]
    rounded = reference.description.get("loss_weights") == "float32"
    row = LOSS_FLOAT32_WEIGHTS if rounded else LOSS
    difference = compare(loss, expected, allowed(row, expected), output="loss")
    if difference.share > 1:
        raise CompatError(
            f"{reference.id}: the training loss on the recorded batch is "
            "another one.",
            facts={
                "obtained": f"{difference.obtained:.12g}",
                "expected": f"{difference.expected:.12g}",
                "allowed": f"{difference.allowed:.2e}",
            },
            remedy="If test_outputs passes, the loss itself has changed: its "
            "weights, its mask or its mean. Training would go on towards "
            "something else.",
        )
    return difference.share


def _columns(reference: Reference, name: str, width: int) -> list[str] | None:
    """Name the columns of a part of the batch."""
    if name in ("init_states", "target_states"):
        return list(reference.dataset.names["state"])
    if name != "forcing":
        return None
    features = reference.dataset.names["forcing"]
    window = width // len(features)
    return [
        f"{feature} (window {index})"
        for feature in features
        for index in range(window)
    ]
