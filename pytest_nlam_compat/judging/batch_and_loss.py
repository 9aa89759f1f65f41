"""Judge what shows in training only: the batch and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import (
    Findings,
    difference_facts,
    dtype_name,
)
from pytest_nlam_compat.numerics.comparison import compare, worst
from pytest_nlam_compat.numerics.tolerances import (
    BATCH,
    LOSS,
    LOSS_FLOAT32,
    LOSS_FLOAT32_WEIGHTS,
    Tolerance,
    allowed,
)
from pytest_nlam_compat.references.reference import Reference

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from torch import Tensor

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


# Up to 0.6 the last sample of an analysis was left out.
_FIRST_WITH_LAST_SAMPLE = Version("0.7.0")


def judge_batch(subject: ReferenceUnderTest) -> Findings:
    """Compare the batch that the current code makes with the recorded one.

    It has to find as many samples in the series, too.
    """
    share = compare_batch(subject.reference, subject.batch())
    check_samples(subject.reference, subject.window, subject.sample_count())
    return Findings({BATCH.name: share})


def compare_batch(reference: Reference, batch: Mapping[str, Tensor]) -> float:
    """Return the largest share of the tolerance that a batch uses.

    Raises if it differs from the recorded one, see `judge_batch`.
    """
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
        raise _batch_error(
            reference,
            difference_facts(most, BATCH),
            {BATCH.name: most.share},
        )
    return most.share


def check_samples(reference: Reference, window: Namespace, found: int) -> None:
    """Raise if samples of the series are lost, or if there are too many.

    `window` has the numbers of past and future forcing steps.
    """
    most = samples_in_series(reference, window)
    without_last = reference.release < _FIRST_WITH_LAST_SAMPLE
    least = most
    if without_last and not reference.dataset.is_forecast:
        least -= _members(reference)
    if not least <= found <= most:
        raise _batch_error(
            reference,
            {
                "cause": "the dataset has another number of samples",
                "samples that the series has": most,
                f"neural-lam {reference.release} found": least,
                "the current code finds": found,
            },
        )


def samples_in_series(reference: Reference, window: Namespace) -> int:
    """Return how many samples the recorded series has.

    Of an analysis, at each time that leaves room for two states or the past
    forcing, the steps of the rollout and the future forcing; of forecasts, one
    for each. Times the members of an ensemble.
    """
    times = int(reference.dataset.arrays["state"].shape[0])
    if reference.dataset.is_forecast:
        return times * _members(reference)
    before = max(2, window.num_past_forcing_steps)
    after = reference.description["ar_steps"] + window.num_future_forcing_steps
    return int(times - before - after + 1) * _members(reference)


def _members(reference: Reference) -> int:
    """Count the members of the ensemble, 1 of none."""
    dataset = reference.dataset
    return int(dataset.arrays["state"].shape[-3]) if dataset.is_ensemble else 1


def _batch_error(
    reference: Reference,
    facts: dict[str, object],
    shares: Mapping[str, float] | None = None,
) -> CompatError:
    return CompatError(
        f"{reference.id}: the current code makes another batch from the same "
        "series.",
        facts=facts,
        remedy="Check the order and the length of the forcing window, what is "
        "standardized where, and casts: old weights expect the old columns.",
        shares=shares,
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


def judge_loss(subject: ReferenceUnderTest) -> Findings:
    """Compare the training loss on the recorded batch with the recorded one.

    In float64, and in float32 for what float64 can't show: an autocast in the
    training step.
    """
    reference = subject.reference
    shares = compare_loss(reference, subject.loss(torch.float64))
    loss = subject.loss(torch.float32)
    return Findings(shares | compare_loss(reference, loss, LOSS_FLOAT32))


def compare_loss(
    reference: Reference, loss: Tensor, row: Tolerance | None = None
) -> dict[str, float]:
    """Compare a loss, (1,) float64, with the recorded one.

    By default it is one that was computed in float64. Returns the share of
    its tolerance, by name.
    """
    expected = reference.group("golden64")["loss"]
    rounded = reference.description.get("loss_weights") == "float32"
    row = row or (LOSS_FLOAT32_WEIGHTS if rounded else LOSS)
    difference = compare(loss, expected, allowed(row, expected), output="loss")
    if difference.share > 1:
        raise CompatError(
            f"{reference.id}: the training loss on the recorded batch has "
            "changed.",
            facts={
                "obtained": f"{difference.obtained:.12g}",
                "expected": f"{difference.expected:.12g}",
                "allowed": f"{difference.allowed:.2e}, tolerance {row.name!r}",
            },
            remedy="If test_outputs passes, the loss function itself has "
            "changed: its weights, its mask or its mean. Resumed training "
            "would optimize something else.",
            shares={row.name: difference.share},
        )
    return {row.name: difference.share}
