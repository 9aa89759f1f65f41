"""What a search for migrations found, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.errors import join_some
from pytest_nlam_compat.suggest.search import SearchResult
from pytest_nlam_compat.suggest.steps import SuggestedStep

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Operations that a run shows.
_OPERATIONS = 5


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
    unfixable : str
        Why no step on weights can fix the first reference; then the others
        were not looked at.
    width_specific : bool
        Whether steps may have numbers that other models lack.
    """

    steps: list[SuggestedStep] = field(default_factory=list)
    undecided: dict[str, SearchResult] = field(default_factory=dict)
    unproved: list[str] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)
    unfixable: str = ""
    width_specific: bool = False

    def operations(self, subject: ReferenceUnderTest) -> Operations:
        """Return the operations of the steps that concern a reference."""
        return tuple(
            operation
            for step in self.steps
            if step.concerns(subject)
            for operation in step.migration.operations
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
        return not (
            self.undecided
            or self.unproved
            or self.training
            or self.unfixable
            or self._refused
        )

    @property
    def verified(self) -> bool:
        """Whether there are steps, and they fix every reference."""
        return bool(self.steps) and self.complete

    @property
    def writable(self) -> bool:
        """Whether there are steps, and all of them are verified together."""
        return bool(self.steps) and not self.unproved and not self._refused

    @property
    def _refused(self) -> bool:
        """Whether a step that fits some models only was not asked for."""
        return not self.width_specific and any(
            step.width_specific for step in self.steps
        )

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            "complete": self.complete,
            "unfixable": self.unfixable,
            "steps": [
                {
                    "id": step.migration.id,
                    "python": step.python(),
                    "proved": step.proved,
                    "held_out": step.held_out,
                    "width_specific": step.width_specific,
                    "largest_difference": step.largest,
                }
                for step in self.steps
            ],
            "unproved": self.unproved,
            "training": self.training,
            "undecided": {
                name: {"verified": len(found.verified), "cause": found.cause}
                for name, found in self.undecided.items()
            },
        }

    def report(self) -> str:
        """Return all of it as text."""
        lines = [self.unfixable] if self.unfixable else []
        if self.unproved:
            lines.append(
                "NOT verified together: with all of these steps, "
                f"{join_some(self.unproved)} still fails. Set `when` so that "
                "each step applies only to the runs that need it."
            )
        for step in self.steps:
            lines += _report_of_step(step)
        for name, reason in self.training.items():
            lines.append(
                f"{name}: its outputs are fixed, and its optimizer is NOT. "
                f"{reason}"
            )
        alike: dict[str, list[str]] = {}
        for name, result in self.undecided.items():
            text = "\n".join(_report_of_search(result))
            alike.setdefault(text, []).append(name)
        lines += [
            f"{join_some(names)}: {text}" for text, names in alike.items()
        ]
        return "\n".join(lines) or "Nothing fails."

    def brief(self) -> str:
        """Return the operations, a line each, and what they are proved on.

        For a run, which has other things to say; there are verified steps.
        """
        proved = dict.fromkeys(n for step in self.steps for n in step.proved)
        lines = [f"How to fix it, verified on {join_some(proved)}:"]
        operations = [o for s in self.steps for o in s.migration.operations]
        lines += [f"  {operation!r}" for operation in operations[:_OPERATIONS]]
        more = len(operations) - _OPERATIONS
        if more > 0:
            lines.append(f"  and {more} more")
        return "\n".join(lines)


def _report_of_step(step: SuggestedStep) -> Iterator[str]:
    if step.proved:
        yield (
            f"Verified on {join_some(step.proved)}: largest difference "
            f"{step.largest:.1e} of the spread."
        )
    else:
        yield "NOT verified:"
    if step.held_out:
        names = join_some(step.held_out)
        yield f"Of other widths than where it was found: {names}."
    elif step.found_on and step.proved:
        yield "No reference of another width proves it."
    yield step.python()
    if step.width_specific:
        yield (
            "It has numbers of columns, and refuses or breaks the models of "
            "other widths: write the rule behind them, or write it with "
            "--width-specific."
        )


def _report_of_search(result: SearchResult) -> Iterator[str]:
    if result.verified:
        yield (
            f"{len(result.verified)} different steps give its golden "
            "outputs, so none is suggested:"
        )
        for trial in result.verified:
            yield _listed(trial.operations)
        return
    yield f"none verified, {result.tried} tried."
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
