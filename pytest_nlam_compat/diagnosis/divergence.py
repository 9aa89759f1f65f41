"""Why the numbers of the current code differ from those of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytest_nlam_compat.diagnosis.alignment import agrees
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.input_changes import fed
from pytest_nlam_compat.diagnosis.module_changes import inside
from pytest_nlam_compat.diagnosis.output_changes import after_the_last
from pytest_nlam_compat.diagnosis.outputs import compare_outputs
from pytest_nlam_compat.diagnosis.state import lost_hyper_parameter, randomness
from pytest_nlam_compat.diagnosis.trace_diff import TraceDiff, walk
from pytest_nlam_compat.diagnosis.weights import differing

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def diagnose(subject: ReferenceUnderTest) -> Finding:
    """Find the first place where the current code means something else.

    Parameters
    ----------
    subject : ReferenceUnderTest
        Whose migrated model gives other float64 outputs than the golden.

    Returns
    -------
    Finding
    """
    module = subject.migrated_model(torch.float64)
    return (
        randomness(subject, module)
        or lost_hyper_parameter(subject, module)
        or _along_the_trace(subject, module)
        or _weights(subject, module)
        or Finding("unknown", "nothing recorded tells where it begins")
    )


def _along_the_trace(
    subject: ReferenceUnderTest, module: nn.Module
) -> Finding | None:
    """Compare layer by layer, where the reference has a trace."""
    if not subject.reference.trace.calls:
        outputs = compare_outputs(subject, module)
        return outputs.finding() or after_the_last(
            subject, module, outputs.observation.outputs
        )
    found = walk(subject, module)
    return first_finding(found) or after_the_last(
        subject, module, found.observation.outputs
    )


def first_finding(found: TraceDiff) -> Finding | None:
    """Describe the first call that differs, None where none does."""
    pair = found.first()
    if pair is None:
        return None
    return inside(found, pair) if agrees(pair.inputs) else fed(found, pair)


def _weights(subject: ReferenceUnderTest, module: nn.Module) -> Finding | None:
    changed, _ = differing(subject, module)
    if not changed:
        return None
    return Finding(
        "weights",
        "loading changed weights",
        details={"changed by loading": ", ".join(changed[:4])},
    )
