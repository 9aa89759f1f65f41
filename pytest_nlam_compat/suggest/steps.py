"""Migrations made of operations that fix references, and their proof."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.optimizer_step import judge_resumed
from pytest_nlam_compat.migrations import (
    All,
    HasHyperParameter,
    Holds,
    Migration,
    Not,
    Operation,
    Reorder,
    SetHyperParameter,
)
from pytest_nlam_compat.migrations.formatting import formatted
from pytest_nlam_compat.migrations.lint import PLACEHOLDER
from pytest_nlam_compat.migrations.operations.base import OnHyperParameters
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    attributes,
    hyper_parameter,
)
from pytest_nlam_compat.migrations.releases import PREFIX
from pytest_nlam_compat.suggest.search import Trial, attempt
from pytest_nlam_compat.suggest.widths import (
    Use,
    by_width,
    is_width_specific,
    names_in,
    shapes_of,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    Predicate = All | Holds | HasHyperParameter | Not


@dataclass
class SuggestedStep:
    """A migration, and what it is proved on.

    Attributes
    ----------
    proved : list of str
        Ids of the references that give their golden with it.
    held_out : list of str
        Those of them whose weights are of other shapes than where it was
        found.
    found_on : frozenset of tuple of int
        The shapes of its weights where it was found.
    width_specific : bool
        Whether it has numbers that other models lack.
    largest : float
        Largest difference among them, over the spread of its variable.
    """

    migration: Migration
    proved: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    found_on: frozenset[tuple[int, ...]] = frozenset()
    width_specific: bool = False
    largest: float = 0.0

    def concerns(self, subject: ReferenceUnderTest) -> bool:
        """Tell whether it applies to a reference."""
        when = self.migration.when
        return when is None or when(subject.float64)

    def python(self) -> str:
        """Return the Python that builds the migration."""
        step = self.migration
        when = f", when={step.when!r}" if step.when is not None else ""
        return formatted(
            f"Migration(id={step.id!r}, since={step.since!r}, "
            f"reason={step.reason!r}, operations={step.operations!r}{when})"
        )


def make_steps(
    subjects: Sequence[ReferenceUnderTest],
    fixes: Mapping[str, Operations],
    found_on: Mapping[str, ReferenceUnderTest],
    *,
    width_specific: bool = False,
) -> list[SuggestedStep]:
    """Make one migration of each change, for all references that need it.

    `fixes` is what each reference needs, by its id; nothing where it passes.
    `found_on` is where each unit was found, by its text. The steps are to be
    applied in their order, and not proved yet. If they may be
    `width_specific`, those for several widths are joined.
    """
    # Compared as text: not every operation can be hashed.
    uses: dict[str, Use] = {}
    for subject in subjects:
        for unit in independent_units(fixes[subject.reference.id]):
            uses.setdefault(repr(unit), (unit, []))[1].append(subject)
    steps = []
    taken = {step.id for s in subjects for step in s.registry.steps}
    # The order of parameters comes after all that moves or renames them.
    changes = _changes(uses.values())
    in_turn = sorted(changes, key=lambda use: isinstance(use[0][-1], Reorder))
    for unit, using in by_width(in_turn) if width_specific else in_turn:
        ids = {subject.reference.id for subject in using}
        others = [s for s in subjects if s.reference.id not in ids]
        where = (found_on.get(repr(part)) for part in independent_units(unit))
        run = next(filter(None, where), using[0]).migrated
        step = SuggestedStep(
            _migration(unit, using, others, taken),
            found_on=shapes_of(unit, run),
            width_specific=any(is_width_specific(o, run) for o in unit),
        )
        taken.add(step.migration.id)
        steps.append(step)
    return steps


def independent_units(operations: Operations) -> list[Operations]:
    """Split operations into independent groups.

    Those that name the same module, as the three of an exchange, stay
    together; and so do all that set an order.
    """
    groups: list[tuple[set[str], list[Operation]]] = []
    orders = tuple(o for o in operations if isinstance(o, Reorder))
    for operation in operations:
        if operation in orders:
            continue
        names = set(names_in(operation))
        joined = [group for group in groups if group[0] & names]
        together = [o for _, members in joined for o in members]
        groups = [group for group in groups if group not in joined]
        groups.append(
            (names.union(*(n for n, _ in joined)), [*together, operation])
        )
    parts = [tuple(group) for _, group in groups]
    return [*parts, orders] if orders else parts


def _changes(uses: Iterable[Use]) -> list[Use]:
    """Join what the same references need in the same module."""
    joined: list[Use] = []
    for unit, subjects in uses:
        for number, (other, using) in enumerate(joined):
            if using == subjects and _top_modules(other) & _top_modules(unit):
                joined[number] = ((*other, *unit), subjects)
                break
        else:
            joined.append((unit, subjects))
    return joined


def _top_modules(unit: Operations) -> set[str]:
    names = {name for o in unit for name in names_in(o)}
    return {name.removeprefix(PREFIX).split(".")[0] for name in names} - {"**"}


def _migration(
    unit: Operations,
    using: Sequence[ReferenceUnderTest],
    others: Sequence[ReferenceUnderTest],
    taken: set[str],
) -> Migration:
    current = using[0].adapter.current
    since = release = current.release
    # A tree under development changes what its release has.
    if not current.released or any(
        s.reference.release >= release for s in using
    ):
        since = Version(f"{release.major}.{release.minor + 1}.0")
    kinds = dict.fromkeys(type(o).__name__ for o in unit)
    name = f"{since}-{'-'.join(_dashed(kind) for kind in kinds)}"
    free = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return Migration(
        id=next(candidate for candidate in free if candidate not in taken),
        since=str(since),
        reason=f"{PLACEHOLDER}: what changed and why, with the pull request.",
        operations=unit,
        when=_predicate(unit, using, others) if others else None,
    )


def _predicate(
    unit: Operations,
    using: Sequence[ReferenceUnderTest],
    others: Sequence[ReferenceUnderTest],
) -> Predicate | None:
    """Find what only the runs that need a step have."""
    named = [
        name.removeprefix(PREFIX)
        for o in unit
        if not isinstance(o, OnHyperParameters)
        for name in sorted(names_in(o))
    ]
    modules = [Holds(name) for name in (*named, *_modules(using[0]))]
    lacking = [
        Not(HasHyperParameter(o.path))
        for o in unit
        if isinstance(o, SetHyperParameter)
    ]
    arguments = [*lacking, *_on_arguments([*using, *others])]
    both = (
        All((module, argument))
        for module in modules[: len(named)]
        for argument in arguments
    )
    # Graph-EFM has no arguments at all.
    lacking_one = (All((HasHyperParameter("args.model"), p)) for p in lacking)
    for predicate in itertools.chain(modules, arguments, lacking_one, both):
        if all(predicate(s.float64) for s in using) and not any(
            predicate(s.float64) for s in others
        ):
            return predicate
    return None


def _on_arguments(
    subjects: Iterable[ReferenceUnderTest],
) -> Iterable[Predicate]:
    """Yield whether an argument has a value, for each that one of them has."""
    args = [hyper_parameter(s.float64, "args") for s in subjects]
    values = dict.fromkeys(
        (f"args.{name}", value)
        for inside in args
        for name, value in (attributes(inside) or {}).items()
        # Numbers tell references apart, not kinds of models; older runs lack
        # what is false by default.
        if isinstance(value, str) or value is True
    )
    for path, value in values:
        yield HasHyperParameter(path, value)
        yield Not(HasHyperParameter(path, value))


def _modules(subject: ReferenceUnderTest) -> Iterable[str]:
    """Yield the modules of a run, the outermost first."""
    names = [n.removeprefix(PREFIX) for n in subject.float64.state_dict]
    parts = [name.split(".") for name in names]
    for depth in range(1, max(map(len, parts))):
        yield from dict.fromkeys(
            ".".join(part[:depth]) for part in parts if len(part) > depth
        )


def prove(
    steps: Sequence[SuggestedStep],
    subjects: Sequence[ReferenceUnderTest],
    folder: Path,
    trials: Mapping[str, Trial],
) -> tuple[list[str], dict[str, str]]:
    """Apply all steps to all references, and note in them which pass.

    `trials` are those that were made before, by reference.

    Returns the references that do not give their golden with the steps, and
    others whose training does not continue as it did, with the reason.
    """
    failed: list[str] = []
    training: dict[str, str] = {}
    for number, subject in enumerate(subjects):
        concerned = [step for step in steps if step.concerns(subject)]
        operations = tuple(o for s in concerned for o in s.migration.operations)
        trial = trials.get(subject.reference.id)
        if trial is None or repr(trial.operations) != repr(operations):
            trial = attempt(subject, operations, folder / str(number))
        if trial.result is None or not trial.verified:
            failed.append(subject.reference.id)
            continue
        if operations:
            try:
                judge_resumed(trial.subject)
            except CompatError as error:
                training[subject.reference.id] = str(error)
        difference = trial.result.worst.relative
        for step in concerned:
            step.proved.append(subject.reference.id)
            step.largest = max(step.largest, difference)
            shapes = shapes_of(step.migration.operations, subject.migrated)
            if not shapes <= step.found_on:
                step.held_out.append(subject.reference.id)
    return failed, training


def _dashed(name: str) -> str:
    return re.sub(r"(?<=.)([A-Z])", r"-\1", name).lower()
