"""A step tried on a reference, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from pytest_nlam_compat.diagnosis.divergence import diagnose, first_finding
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.outputs import compare_outputs
from pytest_nlam_compat.diagnosis.trace_diff import walk
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.migrations import Migration, Operation

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

Operations = tuple[Operation, ...]


@dataclass
class Trial:
    """Operations applied after all steps there are.

    Attributes
    ----------
    subject : ReferenceUnderTest
        With them.
    operations : tuple of Operation
    error : CompatError or None
        Why there are no outputs to compare.
    module : torch.nn.Module or None
        The current model, where the run fits it.
    difference : float
        Largest in the float64 outputs, over the spread of its variable.
    share : float
        Of the tolerance.
    depth : float
        Share of the recorded calls before the first that differs.
    finding : Finding or None
        Why the outputs differ.
    """

    subject: ReferenceUnderTest
    operations: tuple[Operation, ...]
    error: CompatError | None = None
    module: nn.Module | None = None
    difference: float = float("inf")
    share: float = float("inf")
    depth: float = -1.0
    finding: Finding | None = field(default=None, repr=False)

    @property
    def verified(self) -> bool:
        """Whether the golden float64 outputs come out."""
        return self.error is None and self.share <= 1


def with_operations(
    subject: ReferenceUnderTest, operations: tuple[Operation, ...], folder: Path
) -> ReferenceUnderTest:
    """Put operations after the steps of a subject.

    Parameters
    ----------
    subject : ReferenceUnderTest
        Left as it is; what it has read is shared.
    operations : tuple of Operation
    folder : pathlib.Path
        Empty, for the graph of the new one.

    Returns
    -------
    ReferenceUnderTest

    Raises
    ------
    CompatError
        What an operation refuses.
    """
    if not operations:
        return subject
    step = Migration("candidate", "9999", "A candidate.", operations)
    return subject.with_steps([step], folder)


def attempt(
    subject: ReferenceUnderTest, operations: tuple[Operation, ...], folder: Path
) -> Trial:
    """Apply operations, load, roll out, and look where it differs.

    Parameters
    ----------
    subject : ReferenceUnderTest
    operations : tuple of Operation
    folder : pathlib.Path

    Returns
    -------
    Trial
        An operation that refuses is a trial that failed.
    """
    trial = Trial(subject, operations)
    try:
        trial.subject = with_operations(subject, operations, folder)
        trial.module = trial.subject.migrated_model(torch.float64)
        result = grade(trial.subject, torch.float64)
    except CompatError as error:
        trial.error = error
        return trial
    trial.difference, trial.share = result.worst.relative, result.share
    if trial.verified:
        trial.depth = 2.0
        return trial
    trial.finding = diagnose(trial.subject)
    trial.depth = _depth(trial)
    return trial


def _depth(trial: Trial) -> float:
    if trial.module is None:
        return 0.0
    calls = trial.subject.reference.trace.calls
    if not calls:
        return compare_outputs(trial.subject, trial.module).depth
    found = walk(trial.subject, trial.module)
    pair = found.first()
    if pair is None or first_finding(found) is None:
        return 1.0
    return pair.then / len(calls)
