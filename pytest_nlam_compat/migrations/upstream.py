"""neural-lam's own registry of migrations (#701, open).

It is a list of ``Migration(target_version, description, apply, hard_break)``.
All steps above the number in a file are applied: of two with one number, or of
one numbered too low, a file can miss one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.lint import (
    Finding,
    StateDictFunction,
    check_function,
)
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.operations import HardBreak, Operation
from pytest_nlam_compat.migrations.operations.base import NotOnWeights

if TYPE_CHECKING:
    from torch import Tensor


class UpstreamStep(NamedTuple):
    """What ``neural_lam.migrations.Migration`` takes besides its number.

    ``apply`` maps a state_dict to a new one; None for a hard break.
    """

    description: str
    apply: StateDictFunction | None
    hard_break: bool


def as_callables(steps: Iterable[Migration]) -> list[UpstreamStep]:
    """Convert what migrations do to weights to neural-lam's registry.

    Predicates are lost: that registry goes by its integer stamp alone.
    Migrations of hyper-parameters or the graph only are left out.

    Raises
    ------
    CompatError
        A migration changes weights by what a state_dict doesn't hold.
    """
    found = []
    for step in steps:
        on_weights = [
            operation
            for operation in step.operations
            if not isinstance(operation, NotOnWeights)
        ]
        if not on_weights:
            continue
        if step.needs:
            raise CompatError(
                f"The migration {step.id!r} needs more than a state_dict.",
                facts={"needs": ", ".join(step.needs)},
                remedy="Leave it to pytest-nlam-compat, and add a hard break "
                "to neural-lam's registry.",
            )
        broken = any(isinstance(o, HardBreak) for o in on_weights)
        found.append(
            UpstreamStep(
                description=f"{step.id}: {step.reason}",
                apply=None if broken else _chain(on_weights),
                hard_break=broken,
            )
        )
    return found


def _chain(operations: list[Operation]) -> StateDictFunction:
    def apply(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        for operation in operations:
            state_dict = operation(state_dict)
        return state_dict

    return apply


def check_numbers(migrations: Sequence[Any], newest: int) -> list[Finding]:
    """Check what can be seen without a file; `newest` is new files' number."""
    counts = Counter(one.target_version for one in migrations)
    findings = [
        Finding(_name(one), "Another step has the same number.")
        for one in migrations
        if counts[one.target_version] > 1
    ]
    findings += [
        Finding(_name(one), f"It stands after number {before.target_version}.")
        for before, one in pairwise(migrations)
        if one.target_version < before.target_version
    ]
    findings += [
        Finding(_name(one), f"New files have the number {newest} only.")
        for one in migrations
        if one.target_version > newest
    ]
    return findings


def check_on_file(
    migrations: Iterable[Any], stamp: int, state_dict: Mapping[str, Tensor]
) -> list[Finding]:
    """Check each step on the weights of a file, in order.

    `stamp` is the number of the file, 0 if it has none.
    """
    findings: list[Finding] = []
    weights = dict(state_dict)
    for one in sorted(migrations, key=lambda step: int(step.target_version)):
        if one.target_version <= stamp:
            continue
        if one.apply is None:
            # Its loader stops at a hard break, and so does this check.
            break
        found = check_function(_name(one), one.apply, weights)
        findings += found
        if any(each.problem.startswith("It raises") for each in found):
            break
        weights = one.apply(dict(weights))
    return findings


def _name(one: Any) -> str:
    return f"{one.target_version} ({one.description})"
