"""Checks of a registry of migrations: ours, a repository's, neural-lam's own.

Each gives findings instead of raising, so that one run names them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.lint_functions import (
    Finding,
    check_function,
)
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.parameters import parameter_names
from pytest_nlam_compat.migrations.planning import in_order, steps_between
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.upstream import StateDictFunction

if TYPE_CHECKING:
    from torch import Tensor


__all__ = [
    "Finding",
    "check_function",
    "check_layout",
    "check_on_run",
    "check_registry",
]

PLACEHOLDER = "TODO"
"""What a reason says that nobody has written yet."""


def check_registry(migrations: Sequence[Migration]) -> list[Finding]:
    """Check what can be seen without a saved run.

    Ids are unique, reasons are given, steps stand in the order of their
    releases, and their limits leave a way.

    Parameters
    ----------
    migrations : sequence of Migration

    Returns
    -------
    list of Finding
    """
    counts = Counter(step.id for step in migrations)
    findings = [
        Finding(name, f"The id is used {count} times.")
        for name, count in counts.items()
        if count > 1
    ]
    findings += [
        Finding(step.id, f"Stands after a step of {before.since}.")
        for before, step in pairwise(migrations)
        if Version(step.since) < Version(before.since)
    ]
    for step in migrations:
        if PLACEHOLDER in step.reason:
            findings.append(Finding(step.id, "Has no reason yet."))
        if not step.operations:
            findings.append(Finding(step.id, "Has no operations."))
        if step.oldest and Version(step.oldest) >= Version(step.since):
            findings.append(
                Finding(
                    step.id,
                    f"No run is of {step.oldest} and older than {step.since}.",
                )
            )
    return findings


def check_on_run(
    migrations: Sequence[Migration],
    origin: Version,
    target: Version,
    run: SavedRun,
) -> list[Finding]:
    """Check a registry on a frozen saved run.

    Every step on the way passes `check_function`, matches and collides with
    nothing, loses no weight and gives the optimizer's parameters back in
    order; and a run that has arrived goes no further.

    Parameters
    ----------
    migrations : sequence of Migration
    origin, target : Version
    run : SavedRun

    Returns
    -------
    list of Finding
    """
    findings: list[Finding] = []
    try:
        steps = steps_between(origin, target, run, migrations)
    except CompatError as error:
        return [Finding("plan", str(error))]
    for step in steps:
        before = run
        try:
            run = step.apply(run)
        except CompatError as error:
            return [*findings, Finding(step.id, str(error))]
        function = _on_weights(step, before)
        findings += check_function(
            step.id, function, before.state_dict, planned=True
        )
        findings += [
            Finding(step.id, f"Numbers the parameter {name!r} {why}.")
            for name, why in _misnumbered(run)
        ]
    if steps_between(target, target, run, migrations):
        findings.append(Finding("plan", "Goes on from where it arrives."))
    return findings


def check_layout(
    migrations: Sequence[Migration],
    run: SavedRun,
    layout: Mapping[str, tuple[int, ...]],
) -> list[Finding]:
    """Check that the last step of a registry reaches the current layout.

    Parameters
    ----------
    migrations : sequence of Migration
    run : SavedRun
        That has gone through them.
    layout : mapping of str to tuple of int
        Names and shapes of the current code's model.

    Returns
    -------
    list of Finding
    """
    last = in_order(migrations)[-1].id if migrations else "none"
    return [Finding(last, problem) for problem in _differences(run, layout)]


def _on_weights(step: Migration, run: SavedRun) -> StateDictFunction:
    """Give what a step does to the weights, with the rest of a run as is."""

    def function(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        # A function may be called with a part of the weights only.
        optimizers = [
            replace(
                optimizer,
                names=[n for n in optimizer.names if n in state_dict],
                moments={
                    name: kinds
                    for name, kinds in optimizer.moments.items()
                    if name in state_dict
                },
            )
            for optimizer in run.optimizers
        ]
        part = replace(run, state_dict=state_dict, optimizers=optimizers)
        return step.apply(part).state_dict

    return function


def _misnumbered(run: SavedRun) -> Iterable[tuple[str, str]]:
    parameters = parameter_names(run.state_dict)
    for optimizer in run.optimizers:
        for name in optimizer.names:
            if name not in run.state_dict:
                yield name, "that has no weight"
        for name in parameters:
            if name not in optimizer.names:
                yield name, "nowhere"
        for name, kinds in optimizer.moments.items():
            weight = run.state_dict.get(name)
            for kind, moment in kinds.items():
                if (
                    weight is not None
                    and kind != "step"
                    and moment.shape != weight.shape
                ):
                    yield name, f"with a {kind} of another shape"


def _differences(
    run: SavedRun, layout: Mapping[str, tuple[int, ...]]
) -> Iterable[str]:
    for name, shape in layout.items():
        if name not in run.state_dict:
            yield f"The current layout has {name!r}, the last step not."
        elif tuple(run.state_dict[name].shape) != tuple(shape):
            found = tuple(run.state_dict[name].shape)
            yield f"{name!r} is {found}, in the current layout {shape}."
    for name in run.state_dict:
        if name not in layout:
            yield f"The last step leaves {name!r}, the current layout not."
