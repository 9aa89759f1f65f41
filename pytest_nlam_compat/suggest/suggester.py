"""Suggest migrations for all references that fail."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.explain import explain
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.diagnosis.parameter_order import reorderings
from pytest_nlam_compat.diagnosis.trace_diff import owner
from pytest_nlam_compat.suggest.search import (
    SearchBudget,
    SearchResult,
    Trial,
    attempt,
    search,
)
from pytest_nlam_compat.suggest.steps import (
    independent_units,
    make_steps,
    prove,
)
from pytest_nlam_compat.suggest.suggestions import Suggestions
from pytest_nlam_compat.suggest.widths import is_width_specific, shapes_of

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    FindNewer = Callable[[ReferenceUnderTest], ReferenceUnderTest | None]
    FindOthers = Callable[[ReferenceUnderTest], Iterable[ReferenceUnderTest]]
    Fix = tuple[Operations, ReferenceUnderTest]

# What differs in the code alone: weights can't make up for it.
_NOT_IN_WEIGHTS = (
    *("activation", "aggregation", "boundary", "clamping", "normalisation"),
    *("precision", "randomness", "rescaling", "residual", "rollout", "std"),
)


class Suggester:
    """Finds migrations that fix all references that fail.

    Parameters
    ----------
    folder : pathlib.Path
        To work in.
    budget : SearchBudget, optional
        For each reference that nothing found so far fixes.
    find_newer : callable, optional
        Finds the newer counterpart of a reference that holds no trace: what
        fixes that one is tried.
    find_others : callable, optional
        Yields references that were not selected, to prove on: those of the
        same model first.
    progress : callable, optional
        Called with what it is about to do.
    """

    def __init__(
        self,
        folder: Path,
        budget: SearchBudget | None = None,
        find_newer: FindNewer | None = None,
        find_others: FindOthers | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = folder
        self._budget = budget
        self._find_newer = find_newer
        self._find_others = find_others or (lambda subject: ())
        self._progress = progress or (lambda text: None)
        self._folders = itertools.count()
        self._trials: dict[str, Trial] = {}
        # By their text, with where they were found.
        self._known: dict[str, Fix] = {}

    def suggest(
        self,
        subjects: Sequence[ReferenceUnderTest],
        *,
        width_specific: bool = False,
    ) -> Suggestions:
        """Search, and prove all that was found together.

        Searching stops where the cause is one that no step can fix.
        """
        found = Suggestions(width_specific=width_specific)
        # Those with a trace first: what fixes them is tried on the others.
        in_turn = sorted(subjects, key=lambda s: not s.reference.trace.calls)
        for number, subject in enumerate(in_turn, 1):
            self._progress(f"{number}/{len(in_turn)} {subject.reference.id}")
            self._fix(subject, found)
            if found.unfixable:
                return found
        self._prefer_general(in_turn)
        concerned = [s for s in subjects if s.reference.id in self._trials]
        concerned += self._of_other_widths(concerned, found)
        self._progress("proving all steps together")
        found_on = {
            repr(unit): subject
            for operations, subject in self._known.values()
            for unit in independent_units(operations)
        }
        fixes = {name: t.operations for name, t in self._trials.items()}
        found.steps = make_steps(
            concerned, fixes, found_on, width_specific=width_specific
        )
        failed, found.training = prove(
            found.steps, concerned, self._new_folder(), self._trials
        )
        found.unproved += failed
        return found

    def _new_folder(self) -> Path:
        return self._folder / str(next(self._folders))

    def _fix(self, subject: ReferenceUnderTest, found: Suggestions) -> None:
        """Find what one reference needs, which may be nothing."""
        trial = self._by_known_fix(subject)
        if trial is None:
            result = search(subject, self._new_folder(), self._budget)
            if len(result.verified) == 1:
                trial = result.verified[0]
                self._learn(trial.operations, subject)
            elif not result.verified:
                trial = self._by_newer(subject)
        if trial is not None:
            self._trials[subject.reference.id] = trial
            return
        found.undecided[subject.reference.id] = result
        if not result.verified:
            result.cause = _cause(subject, self._find_newer)
            found.unfixable = _unfixable(result)

    def _by_known_fix(self, subject: ReferenceUnderTest) -> Trial | None:
        """Try what has fixed other references, nothing first."""
        fixes = [(), *(operations for operations, _ in self._known.values())]
        found = (self._tried(subject, operations) for operations in fixes)
        return next((trial for trial in found if trial is not None), None)

    def _learn(self, operations: Operations, where: ReferenceUnderTest) -> None:
        self._known[repr(operations)] = (operations, where)

    def _tried(
        self, subject: ReferenceUnderTest, operations: Operations
    ) -> Trial | None:
        """Try operations; None where they do not fix the reference."""
        trial = attempt(subject, operations, self._new_folder())
        return trial if trial.verified and _in_order(trial.subject) else None

    def _by_newer(self, subject: ReferenceUnderTest) -> Trial | None:
        """Try what fixes the newer counterpart of one without a trace."""
        if self._find_newer is None or subject.reference.trace.calls:
            return None
        newer = self._find_newer(subject)
        if newer is None or self._by_known_fix(newer) is not None:
            return None
        verified = search(newer, self._new_folder(), self._budget).verified
        # Where several fit, the newer one does not tell which it is.
        if len(verified) != 1:
            return None
        self._learn(verified[0].operations, newer)
        return self._by_known_fix(subject)

    def _prefer_general(self, subjects: Sequence[ReferenceUnderTest]) -> None:
        """Replace fixes of a few references by one that fixes more."""
        for better, other in itertools.permutations(self._known, 2):
            using = self._using(subjects, other)
            if not self._using(subjects, better):
                continue
            trials: dict[str, Trial] = {}
            for subject in using:
                trial = self._tried(subject, self._known[better][0])
                if trial is None:
                    break
                trials[subject.reference.id] = trial
            else:
                self._trials |= trials

    def _using(
        self, subjects: Sequence[ReferenceUnderTest], fix: str
    ) -> list[ReferenceUnderTest]:
        used = {n: repr(t.operations) for n, t in self._trials.items()}
        return [s for s in subjects if used.get(s.reference.id) == fix]

    def _of_other_widths(
        self, concerned: Sequence[ReferenceUnderTest], found: Suggestions
    ) -> Iterator[ReferenceUnderTest]:
        """Fix references that were not selected, where widths need proof."""
        for operations, where in self._known.values():
            run = where.migrated
            if any(is_width_specific(o, run) for o in operations):
                continue
            shapes = shapes_of(operations, run)
            everywhere = itertools.chain(concerned, self._find_others(where))
            other = next(
                (
                    s
                    for s in everywhere
                    if not shapes_of(operations, s.migrated) <= shapes
                ),
                None,
            )
            if not shapes or other is None or other in concerned:
                continue
            self._progress(f"proving it on {other.reference.id}")
            trial = self._by_known_fix(other)
            if trial is None:
                found.unproved.append(other.reference.id)
            else:
                self._trials[other.reference.id] = trial
                yield other


def _unfixable(result: SearchResult) -> str:
    """Say why no step can fix a reference; empty where one may."""
    closest = result.closest
    found = closest.diagnosis if closest is not None else None
    if closest is None or found is None or found.kind not in _NOT_IN_WEIGHTS:
        return ""
    lines = [
        f"No migration can fix this: {found.cause}",
        *(f"  {label}: {fact}" for label, fact in found.facts().items()),
    ]
    if closest.operations:
        lines += ["  It remains once these are applied:"]
        lines += [f"    {o.python()}" for o in closest.operations]
    pinned = _default_to_pin(closest, found)
    if pinned:
        lines.append(
            f"Pin {pinned}: keep what old runs were built with as a "
            "hyper-parameter, and set it for them with SetHyperParameter."
        )
    else:
        lines.append("Keep the old behaviour for old runs, or refuse them.")
    return "\n".join(lines)


def _default_to_pin(trial: Trial, found: Diagnosis) -> str:
    """Find the default that now names another class: ``Net(aggr='sum')``."""
    was, replaced, now = found.cause.partition(" was replaced by ")
    if not replaced or trial.model is None:
        return ""
    # As SumAggregation and MeanAggregation, of which the last word is the kind.
    kind = re.findall("[A-Z][a-z]*", now)[-1:]
    old, new = (n.removesuffix("".join(kind)).lower() for n in (was, now))
    _, cls = owner(trial.subject, trial.model, found.module)
    for base in cls.__mro__:
        for name, parameter in inspect.signature(base).parameters.items():
            if parameter.default == new:
                return f"{base.__name__}({name}={old!r})"
        if (
            base.__module__.partition(".")[0]
            != cls.__module__.partition(".")[0]
        ):
            break
    return ""


def _cause(subject: ReferenceUnderTest, find_newer: FindNewer | None) -> str:
    def newer() -> Diagnosis | None:
        other = find_newer(subject) if find_newer is not None else None
        return explain(other, "outputs") if other is not None else None

    return explain(subject, "outputs", newer).cause


def _in_order(subject: ReferenceUnderTest) -> bool:
    """Tell whether the optimizer has the parameters in the model's order."""
    model = subject.migrated_model(torch.float64)
    return not reorderings(subject.migrated, model)
