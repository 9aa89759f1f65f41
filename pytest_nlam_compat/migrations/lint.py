"""Checks of a registry of migrations: ours, a repository's, neural-lam's own.

Each gives findings instead of raising, so that one run names them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.parameters import parameter_names
from pytest_nlam_compat.migrations.planning import in_order, plan
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.upstream import StateDictFunction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Finding:
    """Something wrong with a step.

    Attributes
    ----------
    step : str
        Its id or description.
    problem : str
        One sentence.
    """

    step: str
    problem: str

    def __str__(self) -> str:
        return f"{self.step}: {self.problem}"


def check_registry(migrations: Sequence[Migration]) -> list[Finding]:
    """Check what can be seen without a saved run.

    Ids are unique, steps stand in the order of their releases, and their
    limits leave a way.

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
    layout: Mapping[str, tuple[int, ...]] | None = None,
) -> list[Finding]:
    """Check a registry on a frozen saved run.

    Every step on the way matches and collides with nothing, loses no weight
    and gives the optimizer's parameters back in order; a run that has arrived
    goes no further; and the last step reaches the current layout.

    Parameters
    ----------
    migrations : sequence of Migration
    origin, target : Version
    run : SavedRun
    layout : mapping of str to tuple of int, optional
        Names and shapes of the current code's model.

    Returns
    -------
    list of Finding
    """
    findings: list[Finding] = []
    try:
        steps = plan(origin, target, run, migrations)
    except CompatError as error:
        return [Finding("plan", str(error))]
    for step in steps:
        try:
            run = step.apply(run)
        except CompatError as error:
            return [*findings, Finding(step.id, str(error))]
        findings += [
            Finding(step.id, f"Numbers the parameter {name!r} {why}.")
            for name, why in _misnumbered(run)
        ]
    if plan(target, target, run, migrations):
        findings.append(Finding("plan", "Goes on from where it arrives."))
    if layout is not None:
        last = in_order(migrations)[-1].id if migrations else "none"
        findings += [
            Finding(last, problem) for problem in _differences(run, layout)
        ]
    return findings


def check_function(
    step: str, function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> list[Finding]:
    """Check a bare function on a state_dict, such as upstream's registry has.

    It overwrites no tensor, renames nothing twice, and what it renames are
    whole dot-separated segments.

    Parameters
    ----------
    step : str
        What to call it in a finding.
    function : callable
        Maps a state_dict to another; may change its argument.
    state_dict : mapping of str to Tensor
        As it is when the function's turn comes.

    Returns
    -------
    list of Finding
    """
    once = function(dict(state_dict))
    findings = [
        Finding(step, f"Overwrites {name!r}.")
        for name in _overwritten(function, state_dict, once)
    ]
    try:
        twice = function(dict(once))
    except CompatError:
        # Ours refuse where nothing is left to do.
        twice = once
    if list(twice) != list(once):
        findings.append(Finding(step, "Twice is not the same as once."))
    findings += [
        Finding(step, f"Takes {name!r} for {module!r}: not a whole segment.")
        for module, name in _mistaken(function, state_dict)
    ]
    return findings


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
        try:
            alone = function({name: tensor})
        except CompatError:
            # Ours refuse where they match nothing: it was not renamed.
            continue
        if any(value is tensor for value in alone.values()):
            yield name


def _mistaken(
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
        after = function({**state_dict, control: some, probe: some})
        if control in after and probe not in after:
            yield module, probe.removesuffix(".bias")


def _renamed_modules(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> list[str]:
    after = set(function(dict(state_dict)))
    gone = {name for name in state_dict if name not in after}
    modules: dict[str, None] = {}
    for name in gone:
        segments = name.split(".")
        for end in range(1, len(segments)):
            module = ".".join(segments[:end])
            inside = {n for n in state_dict if n.startswith(f"{module}.")}
            if inside <= gone:
                modules[module] = None
                break
    return list(modules)


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
