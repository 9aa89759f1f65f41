"""The checks of the suite as functions, for those who run them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.judging.batch_and_loss import judge_batch, judge_loss
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.judging.optimizer_step import judge_resumed

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    Check = Callable[[ReferenceUnderTest], object]


def checks_of(*, newest: bool) -> dict[str, Check]:
    """Return, by name, the checks that can tell two versions of code apart.

    Each raises if the reference fails. Only those of the newest release have
    to load natively.
    """

    def native(subject: ReferenceUnderTest) -> None:
        if newest and not subject.steps:
            model = subject.native_model(torch.float64)
            grade(subject, torch.float64, model).raise_on_failure()

    def outputs(dtype: torch.dtype) -> Check:
        return lambda subject: grade(subject, dtype).raise_on_failure()

    return {
        "loads": lambda subject: subject.migrated_model(torch.float64),
        "outputs": outputs(torch.float64),
        "outputs_float32": outputs(torch.float32),
        "native": native,
        "batch": judge_batch,
        "loss": judge_loss,
        "resumes": judge_resumed,
    }
