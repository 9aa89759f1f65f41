"""Which module of the current code a module of a release has become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pytest_nlam_compat.migrations import Migration, SavedRun
from pytest_nlam_compat.migrations.prefixes import PREFIX

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


class ModuleNames:
    """Names of modules now, by their names in a release.

    Parameters
    ----------
    parameters : mapping of str to str
        Old to current names of parameters, both below the step predictor.
    """

    def __init__(self, parameters: Mapping[str, str]) -> None:
        votes: dict[str, Counter[str]] = {}
        for old, new in parameters.items():
            for was, now in _ancestors(old, new):
                votes.setdefault(was, Counter())[now] += 1
        self._known = {
            was: counter.most_common(1)[0][0] for was, counter in votes.items()
        }

    def current(self, old: str) -> str:
        """Return the name that a module of the release has now.

        A module without parameters goes where its parent went.
        """
        segments = old.split(".")
        for length in range(len(segments), 0, -1):
            found = self._known.get(".".join(segments[:length]))
            if found is not None:
                return ".".join([found, *segments[length:]]).strip(".")
        return old


def _ancestors(old: str, new: str) -> Iterable[tuple[str, str]]:
    """Pair the modules around a parameter, as far up as they are alike."""
    was, now = old.split(".")[:-1], new.split(".")[:-1]
    while was and now:
        yield ".".join(was), ".".join(now)
        if was[-1] != now[-1]:
            return
        was, now = was[:-1], now[:-1]


def parameter_names(
    run: SavedRun, steps: Sequence[Migration]
) -> dict[str, str]:
    """Follow the parameters of a run through migrations.

    An operation that only renames shares the tensor with the run before; one
    that changes a tensor leaves its name.

    Parameters
    ----------
    run : SavedRun
        As recorded.
    steps : sequence of Migration

    Returns
    -------
    dict of str to str
        Names before to names after; what was dropped is left out.
    """
    names = {name: name for name in run.state_dict}
    for step in steps:
        for operation in step.operations:
            after = operation.apply(run)
            moved = follow(run.state_dict, after.state_dict)
            names = {
                old: moved[now] for old, now in names.items() if now in moved
            }
            run = after
    return names


def follow(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, str]:
    """Pair the names of two state_dicts by the tensors that they share."""
    places = {id(tensor): name for name, tensor in after.items()}
    moved = {}
    for name, tensor in before.items():
        place = places.get(id(tensor), name)
        if place in after:
            moved[name] = place
    return moved


def below_predictor(subject: ReferenceUnderTest, module: nn.Module) -> str:
    """Return the prefix of the step predictor's parameters."""
    predictor = subject.adapter.step_predictor(module)
    for name, candidate in module.named_modules():
        if candidate is predictor:
            return f"{name}." if name else ""
    return ""


def module_names(subject: ReferenceUnderTest, module: nn.Module) -> ModuleNames:
    """Find what the modules of a reference are called now.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        As `ReferenceUnderTest.migrated` gave it.

    Returns
    -------
    ModuleNames
    """
    names = parameters_below_predictor(subject)
    loaded = dict(subject.migrated.state_dict)
    on_load = getattr(module, "on_load_checkpoint", None)
    if on_load is not None:
        # The loader of the current code may rename on its own.
        on_load({"state_dict": loaded, "optimizer_states": []})
    moved = follow(subject.migrated.state_dict, loaded)
    now = below_predictor(subject, module)
    return ModuleNames(
        {
            old: moved[new].removeprefix(now)
            for old, new in names.items()
            if new in moved
        }
    )


def parameters_below_predictor(subject: ReferenceUnderTest) -> dict[str, str]:
    """Follow the parameters of a reference to the migrated run.

    Parameters
    ----------
    subject : ReferenceUnderTest

    Returns
    -------
    dict of str to str
        Names in the release, below its step predictor, to full names now.
    """
    names = parameter_names(subject.float64, subject.steps)
    was = _prefix(names)
    return {old.removeprefix(was): new for old, new in names.items()}


def _prefix(names: Mapping[str, str]) -> str:
    """Return where a release kept its step predictor: since 0.7 apart."""
    return PREFIX if all(n.startswith(PREFIX) for n in names) else ""
