"""From operations that mend references to steps for a repository."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.diagnosis.explain import why
from pytest_nlam_compat.diagnosis.ordering import reorderings
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.migrations import ByWidth
from pytest_nlam_compat.suggest.attempt import Operations, Trial, attempt
from pytest_nlam_compat.suggest.search import Budget, Search, search
from pytest_nlam_compat.suggest.steps import Step, make_steps, prove

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass
class Suggestions:
    """What was found for all references that fail.

    Attributes
    ----------
    steps : list of Step
        Verified, in the order in which they are to be applied.
    unmended : dict of str to Search
        References without a verified step, by id.
    several : dict of str to Search
        References for which several steps remain.
    passing : list of str
        References that pass as it is.
    causes : dict of str to str
        Why those without a step fail.
    unproved : list of str
        References that do not pass with all steps together.
    training : dict of str to str
        References that pass with them, and why training does not go on as it
        did.
    """

    steps: list[Step] = field(default_factory=list)
    unmended: dict[str, Search] = field(default_factory=dict)
    several: dict[str, Search] = field(default_factory=dict)
    passing: list[str] = field(default_factory=list)
    causes: dict[str, str] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every reference passes or is mended, in one way only."""
        return not (
            self.unmended or self.several or self.unproved or self.training
        )

    @property
    def verified(self) -> bool:
        """Whether there are steps, and they mend every reference."""
        return bool(self.steps) and self.complete

    @property
    def writable(self) -> bool:
        """Whether there are steps, and all of them are verified together."""
        return bool(self.steps) and not self.unproved

    def report(self) -> str:
        """Say everything in words."""
        lines: list[str] = []
        if self.unproved:
            lines.append(
                "NOT verified together: with all of these steps, "
                f"{', '.join(self.unproved)} still fails. Say with `when` "
                "which runs each of them concerns."
            )
        for step in self.steps:
            if step.proved:
                lines.append(
                    f"Verified on {', '.join(step.proved)}: largest "
                    f"difference {step.largest:.1e} of the spread."
                )
            else:
                lines.append("NOT verified:")
            lines.append(step.python())
            if any(isinstance(o, ByWidth) for o in step.migration.operations):
                lines.append(
                    "It knows the widths of these references, and refuses "
                    "runs of another: better say the rule behind them."
                )
        for name, why_not in self.training.items():
            lines.append(
                f"{name}: its outputs are mended, and NOT its optimizer. "
                f"{why_not}"
            )
        for name, found in self.several.items():
            lines.append(
                f"{name}: {len(found.verified)} different steps give its "
                "golden, so that none is suggested:"
            )
            lines += [_listed(trial.operations) for trial in found.verified]
        for name, found in self.unmended.items():
            lines.append(f"{name}: none verified, {found.tried} tried.")
            lines.append(f"  cause: {self.causes[name]}")
            if found.exhausted:
                lines.append("  The budget ended before the candidates did.")
            if found.closest is not None and found.closest.operations:
                guess = _listed(found.closest.operations)
                lines.append(f"  A guess only, NOT verified:\n{guess}")
        return "\n".join(lines) or "Nothing fails."


def suggest_steps(
    subjects: Sequence[ReferenceUnderTest],
    folder: Path,
    budget: Budget | None = None,
) -> Suggestions:
    """Find steps that mend all references that fail.

    Parameters
    ----------
    subjects : sequence of ReferenceUnderTest
    folder : pathlib.Path
        To work in.
    budget : Budget, optional
        For each reference that nothing found so far mends.

    Returns
    -------
    Suggestions
        Each step proved, along with the others, on every reference that it
        is named for.
    """
    found = Suggestions()
    mended: dict[str, Operations] = {}
    # Those with a trace first: what mends them is tried on the others.
    in_turn = sorted(subjects, key=lambda s: not s.reference.trace.calls)
    for number, subject in enumerate(in_turn):
        name = subject.reference.id
        if _passes(subject):
            found.passing.append(name)
            mended[name] = ()
            continue
        place = folder / str(number)
        known = _known(subject, mended.values(), place)
        if known is not None:
            mended[name] = known
            continue
        result = search(subject, place, budget)
        if len(result.verified) == 1:
            mended[name] = result.verified[0].operations
        elif result.verified:
            found.several[name] = result
        else:
            found.unmended[name] = result
            found.causes[name] = why(subject, "outputs").cause
    concerned = [s for s in subjects if s.reference.id in mended]
    found.steps = make_steps(concerned, mended)
    proof = prove(found.steps, concerned, folder / "proof")
    found.unproved, found.training = proof.failed, proof.training
    return found


def _known(
    subject: ReferenceUnderTest, parts: Iterable[Operations], folder: Path
) -> Operations | None:
    """Try what has mended other references."""
    different = {repr(part): part for part in parts if part}
    for number, part in enumerate(different.values()):
        trial = attempt(subject, part, folder / f"known{number}")
        if trial.verified and _in_order(trial):
            return part
    return None


def _in_order(trial: Trial) -> bool:
    assert trial.module is not None
    return not reorderings(trial.subject.migrated, trial.module)


def _passes(subject: ReferenceUnderTest) -> bool:
    try:
        result = grade(subject, torch.float64)
    except CompatError:
        return False
    module = subject.migrated_model(torch.float64)
    return result.passed and not reorderings(subject.migrated, module)


def _listed(operations: Operations) -> str:
    return "\n".join(f"    {operation.python()}" for operation in operations)
