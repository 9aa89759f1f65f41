"""The operations that mend a reference, proved by its golden outputs."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.diagnosis.building import proposals_for_building
from pytest_nlam_compat.diagnosis.changes import Change
from pytest_nlam_compat.diagnosis.ordering import reorderings
from pytest_nlam_compat.diagnosis.patterns import generalise, renames
from pytest_nlam_compat.diagnosis.renames import follow
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    AddInputColumns,
    Operation,
    PermuteInputColumns,
    Rename,
    SavedRun,
)
from pytest_nlam_compat.migrations.operations.tensors import OnTensors
from pytest_nlam_compat.suggest.attempt import Operations, Trial, attempt
from pytest_nlam_compat.suggest.candidates import for_loading, for_numbers

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Of the largest weight: numbers read off moments have this rounding, and two
# orders or places of weights are never so close.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Budget:
    """How long to search, at most, for each reference.

    Attributes
    ----------
    trials : int
    seconds : float
    """

    trials: int = 60
    seconds: float = 20.0


@dataclass
class Search:
    """What came of a search.

    Attributes
    ----------
    verified : list of Trial
        Steps that give the golden outputs and different models, in the order
        in which they were found.
    closest : Trial or None
        The one that came furthest, where none is verified.
    tried : int
    exhausted : bool
        Whether the budget ended before the candidates did.
    changes : list of Change
        Why the run did not fit the model, where it did not.
    """

    verified: list[Trial] = field(default_factory=list)
    closest: Trial | None = None
    tried: int = 0
    exhausted: bool = False
    changes: list[Change] = field(default_factory=list)


def search(
    subject: ReferenceUnderTest, folder: Path, budget: Budget | None = None
) -> Search:
    """Search for operations that mend a reference, best first.

    Parameters
    ----------
    subject : ReferenceUnderTest
        That does not load, or gives other outputs than its golden.
    folder : pathlib.Path
        Empty, to work in.
    budget : Budget, optional

    Returns
    -------
    Search
    """
    budget = budget or Budget()
    ends = time.monotonic() + budget.seconds
    found = Search()
    count = itertools.count()
    queue: list[tuple[float, int, int, Operations]] = [(0.0, 0, 0, ())]
    seen: set[str] = {repr(())}
    while queue:
        if found.tried >= budget.trials or time.monotonic() > ends:
            found.exhausted = True
            break
        least, length, _, operations = heapq.heappop(queue)
        if found.verified and length > len(found.verified[0].operations):
            continue
        trial = attempt(subject, operations, folder / str(found.tried))
        found.tried += 1
        if trial.verified:
            if _is_new(found.verified, trial):
                found.verified.append(trial)
            continue
        # A candidate that brings nothing is no way to anything.
        if operations and trial.module is not None and trial.depth <= -least:
            continue
        if found.closest is None or trial.depth > found.closest.depth:
            found.closest = trial
        if found.verified:
            continue
        for proposal in _proposals(trial, found):
            longer = (*operations, *proposal)
            if repr(longer) not in seen:
                seen.add(repr(longer))
                heapq.heappush(
                    queue, (-trial.depth, len(longer), next(count), longer)
                )
    found.verified = [
        _ordered(
            subject,
            _simplified(subject, trial, folder / f"simple{i}"),
            folder / f"ordered{i}",
        )
        for i, trial in enumerate(found.verified)
    ]
    return found


def _proposals(trial: Trial, found: Search) -> Iterator[Operations]:
    if trial.error is None:
        assert trial.module is not None
        assert trial.finding is not None
        yield from for_numbers(trial.subject, trial.module, trial.finding)
        return
    if trial.module is not None:
        return
    try:
        wanted = trial.subject.layout()
    except CompatError as error:
        yield from proposals_for_building(trial.subject, error)
        return
    changes, proposals = for_loading(trial.subject, wanted)
    found.changes = found.changes or changes
    yield from proposals


def _is_new(verified: list[Trial], trial: Trial) -> bool:
    """Tell whether a trial leads to another model than those found."""
    return not any(_same(trial, other) for other in verified)


def _same(one: Trial, other: Trial) -> bool:
    a, b = one.subject.migrated.state_dict, other.subject.migrated.state_dict
    if a.keys() != b.keys():
        return False
    for name, tensor in a.items():
        size = float(tensor.double().abs().max()) if tensor.numel() else 0.0
        apart = (tensor.double() - b[name].double()).abs()
        if apart.numel() and float(apart.max()) > _ROUNDING * size:
            return False
    return True


def _simplified(
    subject: ReferenceUnderTest, trial: Trial, folder: Path
) -> Trial:
    """Say the same in fewer operations, and verify that."""
    shorter = _added(_renames(subject.migrated, trial.operations))
    shorter = _joined(_blocks(shorter), subject.migrated)
    if shorter == trial.operations:
        return trial
    again = attempt(subject, shorter, folder)
    return again if again.verified else trial


def _ordered(subject: ReferenceUnderTest, trial: Trial, folder: Path) -> Trial:
    """Register in today's order, too, what came to its place by name."""
    assert trial.module is not None
    more = reorderings(trial.subject.migrated, trial.module)
    if not more:
        return trial
    again = attempt(subject, (*trial.operations, *more), folder)
    return again if again.verified else trial


def _renames(run: SavedRun, operations: Operations) -> Operations:
    """Write a chain of renames as what it comes to."""
    if len(operations) < 2 or not all(
        isinstance(o, Rename) for o in operations
    ):
        return operations
    after = run
    for operation in operations:
        after = operation.apply(after)
    pairs = follow(run.state_dict, after.state_dict)
    described = renames(pairs, run.state_dict)
    return tuple(o for _, _, group in described for o in group)


def _added(operations: Operations) -> Operations:
    """Put new columns where they belong at once, not at the end first."""
    found = list(operations)
    for one in operations:
        for two in operations:
            if (
                isinstance(one, AddInputColumns)
                and isinstance(two, PermuteInputColumns)
                and one.names == two.names
            ):
                places = [
                    new
                    for new, old in enumerate(two.order)
                    if old in one.columns
                ]
                found[found.index(one)] = replace(one, columns=tuple(places))
                found.remove(two)
    return tuple(found)


def _blocks(operations: Operations) -> Operations:
    """Name only the columns that move: others may be there or not."""
    return tuple(
        _block(o)
        if isinstance(o, PermuteInputColumns) and o.start is None
        else o
        for o in operations
    )


def _block(operation: PermuteInputColumns) -> PermuteInputColumns:
    order = operation.order
    moved = [new for new, old in enumerate(order) if new != old]
    if not moved:
        return operation
    first, end = moved[0], moved[-1] + 1
    block = tuple(old - first for old in order[first:end])
    # What stands at the end does so in inputs of any width.
    at_the_end = end == len(order) and first > 0
    start = first - len(order) if at_the_end else first
    return replace(operation, order=block, start=start)


def _joined(operations: Operations, run: SavedRun) -> Operations:
    """Write the same operation on several tensors with patterns."""
    groups: dict[str, list[OnTensors]] = {}
    rest: list[Operation] = []
    for operation in operations:
        if (
            isinstance(operation, OnTensors)
            and operation.names in run.state_dict
        ):
            key = repr(replace(operation, names="*"))
            groups.setdefault(key, []).append(operation)
        else:
            rest.append(operation)
    if not any(len(group) > 1 for group in groups.values()):
        return operations
    joined = [
        replace(group[0], names=pattern)
        for group in groups.values()
        for pattern in generalise([o.names for o in group], run.state_dict)
    ]
    return (*rest, *joined)
