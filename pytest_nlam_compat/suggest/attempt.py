"""Operations tried on a reference, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.explain import diagnose
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import Result, grade
from pytest_nlam_compat.migrations import Migration, Operation

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

Operations = tuple[Operation, ...]


@dataclass
class Trial:
    """Operations applied after all migrations there are.

    Attributes
    ----------
    subject : ReferenceUnderTest
        With them.
    operations : tuple of Operation
    error : CompatError or None
        Why there are no outputs to compare.
    model : torch.nn.Module or None
        The current model, where the run fits it.
    result : Result or None
        Of its float64 outputs.
    diagnosis : Diagnosis or None
        Why the outputs differ.
    """

    subject: ReferenceUnderTest
    operations: Operations
    error: CompatError | None = None
    model: nn.Module | None = None
    result: Result | None = None
    diagnosis: Diagnosis | None = field(default=None, repr=False)

    @property
    def verified(self) -> bool:
        """Whether the float64 outputs are the golden ones."""
        return self.result is not None and self.result.passed

    @property
    def depth(self) -> float:
        """How far it came: -1 without outputs, 1 where all calls agree."""
        return -1.0 if self.diagnosis is None else self.diagnosis.depth


def attempt(
    subject: ReferenceUnderTest, operations: Operations, folder: Path
) -> Trial:
    """Apply operations, load, roll out, and trace once if it fails.

    Parameters
    ----------
    subject : ReferenceUnderTest
    operations : tuple of Operation
    folder : pathlib.Path
        Empty, for the files of the migrated reference.

    Returns
    -------
    Trial
        An operation that refuses is a trial that failed.
    """
    trial = Trial(subject, operations)
    try:
        if operations:
            step = Migration("candidate", "9999", "A candidate.", operations)
            trial.subject = subject.with_steps([step], folder)
        trial.model = trial.subject.migrated_model(torch.float64)
        trial.result = grade(trial.subject, torch.float64)
        if not trial.verified:
            trial.diagnosis = diagnose(trial.subject, trial.result)
    except CompatError as error:
        trial.error = error
    return trial
