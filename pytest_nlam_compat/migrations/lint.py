"""Checks of a registry of migrations: ours, a repository's, neural-lam's own.

Each returns findings instead of raising, so that one run names them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.operations import ByWidth
from pytest_nlam_compat.migrations.planning import in_order, steps_between
from pytest_nlam_compat.migrations.releases import parameter_names
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor

StateDictFunction = Callable[["dict[str, Tensor]"], "dict[str, Tensor]"]
PLACEHOLDER = "TODO"
"""Part of a reason that nobody has written yet."""


class Finding(NamedTuple):
    """Something wrong with a migration, named by its id or description."""

    step: str
    problem: str

    def __str__(self) -> str:
        return f"{self.step}: {self.problem}"


def check_registry(migrations: Sequence[Migration]) -> list[Finding]:
    """Check what can be seen without a saved run.

    Ids are unique, reasons are given, migrations are in the order of their
    releases, and each applies to some release.
    """
    counts = Counter(step.id for step in migrations)
    findings = [
        Finding(name, f"The id is used {count} times.")
        for name, count in counts.items()
        if count > 1
    ]
    findings += [
        Finding(step.id, f"It stands after a migration of {earlier.since}.")
        for earlier, step in pairwise(migrations)
        if Version(step.since) < Version(earlier.since)
    ]
    for step in migrations:
        if PLACEHOLDER in step.reason:
            findings.append(Finding(step.id, "It has no reason yet."))
        if not step.operations:
            findings.append(Finding(step.id, "It has no operations."))
        if step.oldest and Version(step.oldest) >= Version(step.since):
            span = f"from {step.oldest} and older than {step.since}"
            findings.append(Finding(step.id, f"No run is {span}."))
    return findings


def width_notices(migrations: Iterable[Migration]) -> list[str]:
    """Say which migrations refuse models of widths that they don't list."""
    return [
        f"{step.id} lists widths with ByWidth and refuses all other models: "
        "say it by blocks, as PermuteInputBlocks does"
        for step in migrations
        if any(isinstance(o, ByWidth) for o in step.operations)
    ]


def check_on_run(
    migrations: Sequence[Migration],
    origin: Version,
    target: Version,
    run: SavedRun,
) -> list[Finding]:
    """Check a registry on a frozen saved run.

    Every migration on the way passes `check_function`, and keeps the
    parameters of the optimizer in order; a run that has arrived needs no more.
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
        findings += [Finding(step.id, problem) for problem in _misnumbered(run)]
    if steps_between(target, target, run, migrations):
        findings.append(
            Finding("plan", "The migrated run needs more migrations.")
        )
    return findings


def check_layout(
    migrations: Sequence[Migration],
    run: SavedRun,
    layout: Mapping[str, tuple[int, ...]],
) -> list[Finding]:
    """Check that migrations lead a run, migrated by them, to a layout.

    `layout` has the names and shapes of the current code's model.
    """
    last = in_order(migrations)[-1].id if migrations else "none"
    shapes = {name: tuple(t.shape) for name, t in run.state_dict.items()}
    problems = []
    for name, shape in layout.items():
        if name not in shapes:
            problems.append(f"It lacks {name!r} of the current layout.")
        elif shapes[name] != tuple(shape):
            problems.append(
                f"{name!r} is {shapes[name]}, in the current layout {shape}."
            )
    problems += [
        f"It leaves {name!r}, which is not in the current layout."
        for name in shapes
        if name not in layout
    ]
    return [Finding(last, problem) for problem in problems]


def check_function(
    step: str,
    function: StateDictFunction,
    state_dict: Mapping[str, Tensor],
    *,
    planned: bool = False,
) -> list[Finding]:
    """Check a bare function on a state_dict, as in neural-lam's registry.

    It overwrites no tensor, renames nothing twice, and what it renames are
    whole dot-separated segments. It may change its argument.

    `step` names it in findings. If it is `planned`, a plan makes sure that it
    is called once: it may exchange names, which a second call would undo.
    """
    try:
        once = function(dict(state_dict))
    # Somebody else's function can raise anything, here and below.
    except Exception as cause:
        return [Finding(step, f"It raises {type(cause).__name__}: {cause}")]
    findings = [
        Finding(step, f"It overwrites {name!r}.")
        for name in _overwritten(function, state_dict, once)
    ]
    # Ours refuse if nothing is left to do.
    twice = _try(function, once) or once
    exchanged = planned and set(twice) == set(once)
    if list(twice) != list(once) and not exchanged:
        findings.append(
            Finding(step, "Calling it twice differs from calling it once.")
        )
    findings += [
        Finding(
            step,
            f"It renames {name!r} along with {module!r}: match whole segments.",
        )
        for module, name in _half_matched(function, state_dict)
    ]
    return findings


def _on_weights(step: Migration, run: SavedRun) -> StateDictFunction:
    """Return what a migration does to the weights of a run."""

    def function(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        optimizers = [
            replace(each, names=[], moments={}, reset={})
            for each in run.optimizers
        ]
        part = replace(run, state_dict=state_dict, optimizers=optimizers)
        return step.apply(part).state_dict

    return function


def _misnumbered(run: SavedRun) -> Iterable[str]:
    parameters = parameter_names(run.state_dict)
    for optimizer in run.optimizers:
        for name in optimizer.names:
            if name not in run.state_dict:
                yield f"The optimizer has {name!r}, which is no parameter."
        for name in parameters:
            if name not in optimizer.names:
                yield f"The optimizer lacks the parameter {name!r}."
        for name, kinds in optimizer.moments.items():
            weight = run.state_dict.get(name)
            for kind, moment in kinds.items():
                if (
                    weight is not None
                    and kind != "step"
                    and moment.shape != weight.shape
                ):
                    yield f"The {kind} of {name!r} has another shape."


def _overwritten(
    function: StateDictFunction,
    state_dict: Mapping[str, Tensor],
    once: Mapping[str, Tensor],
) -> Iterable[str]:
    """Find tensors that are lost among others, and not when alone."""
    there = {id(tensor) for tensor in once.values()}
    for name, tensor in state_dict.items():
        if id(tensor) in there:
            continue
        # Ours refuse where they match nothing: it was not renamed.
        alone = _try(function, {name: tensor}) or {}
        if any(value is tensor for value in alone.values()):
            yield name


def _half_matched(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> Iterable[tuple[str, str]]:
    """Find modules whose name also matches as the beginning of a longer one."""
    some = next(iter(state_dict.values()), None)
    if some is None:
        return
    for module in _renamed_modules(function, state_dict):
        # Same parent, so that a rule for all its children is no mistake.
        parent = module.rpartition(".")[0]
        control = f"{parent}.unrelated.bias".lstrip(".")
        probe = f"{module}_extra.bias"
        probed = {**state_dict, control: some, probe: some}
        after = _try(function, probed) or {}
        if control in after and probe not in after:
            yield module, probe.removesuffix(".bias")


def _try(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    try:
        return function(dict(state_dict))
    except Exception:
        return None


def _renamed_modules(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> list[str]:
    """Find the outermost modules of which no tensor keeps its name."""
    after = function(dict(state_dict))
    gone = {name for name in state_dict if name not in after}
    kept = {
        parent for name in state_dict.keys() - gone for parent in _parents(name)
    }
    found: set[str] = set()
    for name in gone:
        outside = [p for p in _parents(name) if p not in kept]
        found |= set(outside[:1])
    return sorted(found)


def _parents(name: str) -> list[str]:
    segments = name.split(".")
    return [".".join(segments[:end]) for end in range(1, len(segments))]
