"""The list of checks that say whether a reference passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.judging.batch_and_loss import judge_batch, judge_loss
from pytest_nlam_compat.judging.evaluation import judge_evaluation
from pytest_nlam_compat.judging.grade import Findings, grade
from pytest_nlam_compat.judging.native_route import judge_native, try_native
from pytest_nlam_compat.judging.optimizer_step import judge_resumed
from pytest_nlam_compat.judging.saved_again import judge_saving

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class ReferenceCheck:
    """A check, and the references that it is for.

    Attributes
    ----------
    judge : callable
        Receives a reference under test and, as `judge_native`, the release
        whose own loader loads it; raises if the reference fails.
    of : str
        ``migrated``: references up to the release of the current code;
        ``newest``: the newest of these; ``all``: those of newer ones, too.
    needs : str
        A part that the reference has to have, see `Reference.has`.
    """

    judge: Callable[[ReferenceUnderTest, Version | None], Findings | None]
    of: str = "migrated"
    needs: str = ""


def _loads(subject: ReferenceUnderTest, _: Version | None) -> None:
    subject.migrated_model(torch.float64)


def _outputs(subject: ReferenceUnderTest, _: Version | None) -> None:
    grade(subject, torch.float64).raise_on_failure()


def _outputs_float32(subject: ReferenceUnderTest, _: Version | None) -> None:
    grade(subject, torch.float32).raise_on_failure()


def _native(subject: ReferenceUnderTest, recorded: Version | None) -> None:
    if recorded is not None:
        judge_native(subject, try_native(subject), recorded)


CHECKS = {
    "loads": ReferenceCheck(_loads),
    "outputs": ReferenceCheck(_outputs),
    "outputs_float32": ReferenceCheck(_outputs_float32),
    "native": ReferenceCheck(_native, of="all"),
    "batch": ReferenceCheck(lambda subject, _: judge_batch(subject)),
    "loss": ReferenceCheck(
        lambda subject, _: judge_loss(subject), needs="loss"
    ),
    "resumes": ReferenceCheck(
        lambda subject, _: judge_resumed(subject), needs="resume"
    ),
    "evaluates": ReferenceCheck(judge_evaluation),
    "saves": ReferenceCheck(
        lambda subject, _: judge_saving(subject), of="newest", needs="resume"
    ),
}
"""By name: those that can tell two versions of the current code apart."""
