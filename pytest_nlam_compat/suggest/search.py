"""Search for operations that fix a reference, proved by its golden outputs."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.explain import diagnose
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.diagnosis.parameter_order import reorderings
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.evaluation import evaluate
from pytest_nlam_compat.judging.grade import Result, grade
from pytest_nlam_compat.migrations import Migration, SavedRun
from pytest_nlam_compat.migrations.operations.base import OnHyperParameters
from pytest_nlam_compat.suggest.candidates import (
    candidates_for_building,
    candidates_for_loading,
    candidates_for_outputs,
)
from pytest_nlam_compat.suggest.simplify import simplify

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Over the largest weight: how much numbers derived from moments are rounded.
# Weights in two different orders or places are never this close.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class SearchBudget:
    """How long to search, at most, for each reference."""

    trials: int = 60
    seconds: float = 20.0


@dataclass
class SearchResult:
    """What a search found.

    Attributes
    ----------
    verified : list of Trial
        They give the golden outputs and different models, in the order in
        which they were found.
    closest : Trial or None
        The one that came furthest, where none is verified.
    tried : int
    exhausted : bool
        Whether the budget ended before the candidates did.
    cause : str
        Why the reference fails, where none is verified.
    """

    verified: list[Trial] = field(default_factory=list)
    closest: Trial | None = None
    tried: int = 0
    exhausted: bool = False
    cause: str = ""


@dataclass
class Trial:
    """Operations applied after all migrations there are.

    Attributes
    ----------
    model : torch.nn.Module or None
        The current model, where the run fits it.
    result : Result or None
        Of its float64 outputs, where it runs.
    diagnosis : Diagnosis or None
        Why the outputs differ, where they do.
    """

    subject: ReferenceUnderTest
    operations: Operations
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


def search(
    subject: ReferenceUnderTest,
    folder: Path,
    budget: SearchBudget | None = None,
) -> SearchResult:
    """Search for operations that fix a reference that fails, best first.

    The empty folder is for the files of the trials.
    """
    budget = budget or SearchBudget()
    ends = time.monotonic() + budget.seconds
    found = SearchResult()
    count = itertools.count()
    runs: list[SavedRun] = []
    queue: list[tuple[float, int, int, Operations]] = [(0.0, 0, 0, ())]
    seen: set[str] = {repr(())}
    while queue:
        if found.tried >= budget.trials or time.monotonic() > ends:
            found.exhausted = True
            break
        least, length, _, operations = heapq.heappop(queue)
        if found.verified and length > len(found.verified[0].operations):
            continue
        trial = _applied(subject, operations, folder / str(found.tried))
        if trial is None or any(_same(trial.subject, run) for run in runs):
            continue
        runs.append(trial.subject.migrated)
        _evaluate(trial)
        found.tried += 1
        if trial.verified:
            # Hyper-parameters that no output shows: the likeliest stays.
            tried = [other.subject.migrated for other in found.verified]
            if not any(_same_weights(trial.subject.migrated, t) for t in tried):
                found.verified.append(trial)
            continue
        if trial.result is not None:
            with suppress(CompatError):
                trial.diagnosis = diagnose(trial.subject, trial.result)
        # A candidate that comes no further than before is not extended.
        if operations and trial.model is not None and trial.depth <= -least:
            continue
        if found.closest is None or trial.depth > found.closest.depth:
            found.closest = trial
        if found.verified:
            continue
        for candidate in _extensions(trial):
            longer = (*operations, *candidate)
            if repr(longer) not in seen:
                seen.add(repr(longer))
                heapq.heappush(
                    queue, (-trial.depth, len(longer), next(count), longer)
                )
    found.verified = [
        _polished(subject, trial, folder / f"polished{number}")
        for number, trial in enumerate(found.verified)
    ]
    return found


def attempt(
    subject: ReferenceUnderTest, operations: Operations, folder: Path
) -> Trial:
    """Apply operations, load and roll out.

    The empty folder is for the files of the migrated reference.
    """
    trial = _applied(subject, operations, folder)
    if trial is None:
        return Trial(subject, operations)
    _evaluate(trial)
    return trial


def _applied(
    subject: ReferenceUnderTest, operations: Operations, folder: Path
) -> Trial | None:
    """Apply operations; None if one refuses."""
    step = Migration("candidate", "9999", "A candidate.", operations)
    try:
        if operations:
            subject = subject.with_steps([step], folder)
        subject.migrated  # noqa: B018 - the history may refuse it.
    except CompatError:
        return None
    return Trial(subject, operations)


def _evaluate(trial: Trial) -> None:
    with suppress(CompatError):
        trial.model = trial.subject.migrated_model(torch.float64)
        result = grade(trial.subject, torch.float64)
        # No output shows whether a hyper-parameter still means the same.
        if result.passed and any(
            isinstance(one, OnHyperParameters) for one in trial.operations
        ):
            evaluate(trial.subject, trial.model)
        trial.result = result


def _extensions(trial: Trial) -> Iterator[Operations]:
    """Yield what may bring a failed trial further."""
    subject, model, diagnosis = trial.subject, trial.model, trial.diagnosis
    if model is not None:
        if diagnosis is not None:
            yield from candidates_for_outputs(subject, model, diagnosis)
        return
    try:
        wanted = subject.layout()
    except CompatError as error:
        yield from candidates_for_building(subject, error)
    else:
        yield from candidates_for_loading(subject, wanted)


def _same(subject: ReferenceUnderTest, other: SavedRun) -> bool:
    """Tell whether a migrated run is one that was tried."""
    run = subject.migrated
    return (
        run.hyper_parameters is other.hyper_parameters
        and run.graph is other.graph
        and _same_weights(run, other)
    )


def _same_weights(run: SavedRun, other: SavedRun) -> bool:
    a, b = run.state_dict, other.state_dict
    return a.keys() == b.keys() and all(
        _nearly_equal(tensor.double(), b[name].double())
        for name, tensor in a.items()
    )


def _nearly_equal(one: Tensor, other: Tensor) -> bool:
    size = float(one.abs().max()) if one.numel() else 0.0
    limit = _ROUNDING * size
    return one.shape == other.shape and bool(
        ((one - other).abs() <= limit).all()
    )


def _polished(subject: ReferenceUnderTest, trial: Trial, folder: Path) -> Trial:
    """Simplify a verified trial, and set the current order of parameters."""
    shorter = simplify(subject.migrated, trial.operations)
    if shorter != trial.operations:
        again = attempt(subject, shorter, folder / "simple")
        trial = again if again.verified else trial
    assert trial.model is not None
    order = reorderings(trial.subject.migrated, trial.model)
    if order:
        longer = (*trial.operations, *order)
        again = attempt(subject, longer, folder / "ordered")
        trial = again if again.verified else trial
    return trial
