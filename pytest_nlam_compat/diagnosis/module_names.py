"""Which module of the current code a module of a release has become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.name_patterns import enclosing_pairs
from pytest_nlam_compat.migrations import Operation, SavedRun
from pytest_nlam_compat.migrations.releases import PREFIX

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


class ModuleNames:
    """Current names of modules, by their names in a release.

    They follow from those of parameters, both below the step predictor.
    """

    def __init__(self, parameters: Mapping[str, str]) -> None:
        votes: dict[str, Counter[str]] = {}
        for old, new in parameters.items():
            # Up to the first renamed module.
            outer, its_outer = old.rpartition(".")[0], new.rpartition(".")[0]
            for was, now in enclosing_pairs(outer, its_outer):
                votes.setdefault(was, Counter())[now] += 1
        self._known = {
            was: counter.most_common(1)[0][0] for was, counter in votes.items()
        }

    def current(self, old: str) -> str:
        """Return the current name of a module of the release.

        A module without parameters has moved with its parent.
        """
        segments = old.split(".")
        for length in range(len(segments), 0, -1):
            found = self._known.get(".".join(segments[:length]))
            if found is not None:
                return ".".join([found, *segments[length:]]).strip(".")
        return old


def current_module_names(
    subject: ReferenceUnderTest, model: nn.Module
) -> ModuleNames:
    """Find the current names of the modules of a reference."""
    steps = [o for step in subject.steps for o in step.operations]
    names = names_through(subject.float64, steps)
    loaded = dict(subject.migrated.state_dict)
    on_load = getattr(model, "on_load_checkpoint", None)
    if on_load is not None:
        # The current code's own loader may rename, too.
        on_load({"state_dict": loaded, "optimizer_states": []})
    moved = renamed_tensors(subject.migrated.state_dict, loaded)
    # In a release, and now.
    was = PREFIX if all(n.startswith(PREFIX) for n in names) else ""
    now = predictor_prefix(subject, model)
    return ModuleNames(
        {
            old.removeprefix(was): moved[new].removeprefix(now)
            for old, new in names.items()
            if new in moved
        }
    )


def names_through(
    run: SavedRun, operations: Iterable[Operation]
) -> dict[str, str]:
    """Follow the names of the tensors of a run through operations.

    An operation that only renames shares the tensor with the run before; one
    that changes a tensor keeps its name. Dropped parameters are left out.
    """
    names = {name: name for name in run.state_dict}
    for operation in operations:
        after = operation.apply(run)
        moved = renamed_tensors(run.state_dict, after.state_dict)
        names = {old: moved[now] for old, now in names.items() if now in moved}
        run = after
    return names


def renamed_tensors(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, str]:
    """Pair the names of two state_dicts by the tensors that they share."""
    names = {id(tensor): name for name, tensor in after.items()}
    moved = {name: names.get(id(t), name) for name, t in before.items()}
    return {old: new for old, new in moved.items() if new in after}


def predictor_prefix(subject: ReferenceUnderTest, model: nn.Module) -> str:
    """Return the prefix of the step predictor's parameters in a model."""
    predictor = subject.adapter.step_predictor(model)
    for name, candidate in model.named_modules():
        if candidate is predictor:
            return f"{name}." if name else ""
    return ""
