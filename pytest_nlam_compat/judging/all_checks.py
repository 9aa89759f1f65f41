"""The checks of the suite as functions, for those who run them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.judging.batch_and_loss import judge_batch, judge_loss
from pytest_nlam_compat.judging.evaluation import judge_evaluation
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.judging.native_route import judge_native, try_native
from pytest_nlam_compat.judging.optimizer_step import judge_resumed
from pytest_nlam_compat.judging.saved_again import judge_saving

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    Check = Callable[[ReferenceUnderTest], object]


def checks_of(recorded: Version | None, *, newest: bool) -> dict[str, Check]:
    """Return, by name, the checks that can tell two versions of code apart.

    Each raises if the reference fails. `recorded` is as for `judge_native`;
    only references of the newest release are saved again.
    """

    def native(subject: ReferenceUnderTest) -> None:
        if recorded is not None:
            judge_native(subject, try_native(subject), recorded)

    def outputs(dtype: torch.dtype) -> Check:
        return lambda subject: grade(subject, dtype).raise_on_failure()

    def evaluates(subject: ReferenceUnderTest) -> None:
        judge_evaluation(subject, recorded)

    checks: dict[str, Check] = {
        "loads": lambda subject: subject.migrated_model(torch.float64),
        "outputs": outputs(torch.float64),
        "outputs_float32": outputs(torch.float32),
        "native": native,
        "batch": judge_batch,
        "loss": judge_loss,
        "resumes": judge_resumed,
        "evaluates": evaluates,
    }
    return checks | ({"saves": judge_saving} if newest else {})
