"""Suggest migrations for all references that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.explain import explain
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.diagnosis.parameter_order import reorderings
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.migrations import ByWidth
from pytest_nlam_compat.suggest.search import (
    SearchBudget,
    SearchResult,
    attempt,
    search,
)
from pytest_nlam_compat.suggest.steps import SuggestedStep, make_steps, prove
from pytest_nlam_compat.suggest.widths import resized

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    FindNewer = Callable[[ReferenceUnderTest], ReferenceUnderTest | None]
    Fix = tuple[Operations, ReferenceUnderTest]


@dataclass
class Suggestions:
    """What was found for all references that fail.

    Attributes
    ----------
    steps : list of SuggestedStep
        In the order in which they are to be applied.
    undecided : dict of str to SearchResult
        References for which no step, or more than one, was verified, by id.
    unproved : list of str
        References that do not pass with all steps together.
    training : dict of str to str
        References that pass with them, and why their training does not
        continue as it did.
    """

    steps: list[SuggestedStep] = field(default_factory=list)
    undecided: dict[str, SearchResult] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)

    def operations(self, subject: ReferenceUnderTest) -> Operations:
        """Return the operations of the steps that concern a reference."""
        migrations = [step.migration for step in self.steps]
        return tuple(
            operation
            for migration in migrations
            if migration.when is None or migration.when(subject.float64)
            for operation in migration.operations
        )

    @property
    def next_cause(self) -> Diagnosis | None:
        """Why a reference fails with the operations that came furthest."""
        for result in self.undecided.values():
            closest = None if result.verified else result.closest
            if closest is not None and closest.operations:
                return closest.diagnosis
        return None

    @property
    def complete(self) -> bool:
        """Whether every reference passes or is fixed, in one way only."""
        return not (self.undecided or self.unproved or self.training)

    @property
    def verified(self) -> bool:
        """Whether there are steps, and they fix every reference."""
        return bool(self.steps) and self.complete

    @property
    def writable(self) -> bool:
        """Whether there are steps, and all of them are verified together."""
        return bool(self.steps) and not self.unproved

    def report(self) -> str:
        """Return all of it as text."""
        lines: list[str] = []
        if self.unproved:
            lines.append(
                "NOT verified together: with all of these steps, "
                f"{', '.join(self.unproved)} still fails. Set `when` so that "
                "each step applies only to the runs that need it."
            )
        for step in self.steps:
            lines += _report_of_step(step)
        for name, reason in self.training.items():
            lines.append(
                f"{name}: its outputs are fixed, and its optimizer is NOT. "
                f"{reason}"
            )
        for name, result in self.undecided.items():
            lines += _report_of_search(name, result)
        return "\n".join(lines) or "Nothing fails."


def _report_of_step(step: SuggestedStep) -> Iterator[str]:
    if step.proved:
        yield (
            f"Verified on {', '.join(step.proved)}: largest difference "
            f"{step.largest:.1e} of the spread."
        )
    else:
        yield "NOT verified:"
    yield step.python()
    if any(isinstance(o, ByWidth) for o in step.migration.operations):
        yield (
            "It lists the widths of these references and refuses runs of any "
            "other: better write the rule behind them."
        )


def _report_of_search(name: str, result: SearchResult) -> Iterator[str]:
    if result.verified:
        yield (
            f"{name}: {len(result.verified)} different steps give its golden "
            "outputs, so none is suggested:"
        )
        for trial in result.verified:
            yield _listed(trial.operations)
        return
    yield f"{name}: none verified, {result.tried} tried."
    yield f"  cause: {result.cause}"
    if result.exhausted:
        yield (
            "  The search reached its limit before it had tried all candidates."
        )
    if result.closest is not None and result.closest.operations:
        guess = _listed(result.closest.operations)
        yield f"  A guess only, NOT verified:\n{guess}"


def _listed(operations: Operations) -> str:
    return "\n".join(f"    {operation.python()}" for operation in operations)


def suggest_steps(
    subjects: Sequence[ReferenceUnderTest],
    folder: Path,
    budget: SearchBudget | None = None,
    find_newer: FindNewer | None = None,
) -> Suggestions:
    """Find migrations that fix all references that fail.

    Parameters
    ----------
    subjects : sequence of ReferenceUnderTest
    folder : pathlib.Path
        To work in.
    budget : SearchBudget, optional
        For each reference that nothing found so far fixes.
    find_newer : callable, optional
        Finds the newer counterpart of a reference that holds no trace: what
        fixes that one is tried.
    """
    found = Suggestions()
    fixes: dict[str, Operations] = {}
    # Those with a trace first: what fixes them is tried on the others.
    in_turn = sorted(subjects, key=lambda s: not s.reference.trace.calls)
    known: list[Fix] = []
    for number, subject in enumerate(in_turn):
        name, place = subject.reference.id, folder / str(number)
        if _passes(subject):
            fixes[name] = ()
            continue
        fix = _by_known_fix(subject, known, place / "known")
        if fix is None:
            result = search(subject, place, budget)
            if not result.verified and find_newer is not None:
                fix = _by_newer(subject, place / "newer", budget, find_newer)
            if len(result.verified) == 1:
                fix = result.verified[0].operations
            elif fix is None:
                found.undecided[name] = result
                if not result.verified:
                    result.cause = _cause(subject, find_newer)
        if fix is not None:
            fixes[name] = fix
            known.append((fix, subject))
    concerned = [s for s in subjects if s.reference.id in fixes]
    found.steps = make_steps(concerned, fixes)
    found.unproved, found.training = prove(
        found.steps, concerned, folder / "proof"
    )
    return found


def _by_known_fix(
    subject: ReferenceUnderTest, known: Sequence[Fix], folder: Path
) -> Operations | None:
    """Try what has fixed other references, as it is and in other widths."""
    tried: dict[str, Operations] = {}
    for operations, fixed in known:
        tried.setdefault(repr(operations), operations)
        other = resized(operations, fixed, subject)
        if other is not None:
            tried.setdefault(repr(other), other)
    for number, operations in enumerate(tried.values()):
        trial = attempt(subject, operations, folder / str(number))
        if trial.verified and _in_order(trial.subject):
            return operations
    return None


def _by_newer(
    subject: ReferenceUnderTest,
    folder: Path,
    budget: SearchBudget | None,
    find_newer: FindNewer,
) -> Operations | None:
    """Try what fixes the newer counterpart of a reference without a trace."""
    newer = None if subject.reference.trace.calls else find_newer(subject)
    if newer is None or _passes(newer):
        return None
    verified = search(newer, folder / "search", budget).verified
    # Where several fit, the newer one does not tell which it is.
    if len(verified) != 1:
        return None
    known = (verified[0].operations, newer)
    return _by_known_fix(subject, [known], folder / "known")


def _cause(subject: ReferenceUnderTest, find_newer: FindNewer | None) -> str:
    def newer() -> Diagnosis | None:
        other = find_newer(subject) if find_newer is not None else None
        return explain(other, "outputs") if other is not None else None

    return explain(subject, "outputs", newer).cause


def _passes(subject: ReferenceUnderTest) -> bool:
    try:
        passed = grade(subject, torch.float64).passed
    except CompatError:
        return False
    return passed and _in_order(subject)


def _in_order(subject: ReferenceUnderTest) -> bool:
    """Tell whether the optimizer has the parameters in the model's order."""
    model = subject.migrated_model(torch.float64)
    return not reorderings(subject.migrated, model)
