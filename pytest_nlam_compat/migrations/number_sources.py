"""Where each number of a migrated run comes from.

A migration moves most numbers as they are and computes a few anew. Which ones
is found out by migrating a run of unmistakable numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.operations.base import POWERS
from pytest_nlam_compat.migrations.planning import apply
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor

COMPUTED = -1


@dataclass(frozen=True)
class NumberSources:
    """Where the numbers of a migrated run come from.

    An index goes into all parameters of the run before it was migrated,
    flattened one after the other in the order of its optimizer.

    Attributes
    ----------
    indices : dict of str to Tensor
        int64, in the shape of each parameter after the migration; `COMPUTED`
        for a number that was not moved as it is.
    reset : dict of str to Tensor
        bool, for parameters with a moment that a migration has reset: where.
    """

    indices: dict[str, Tensor]
    reset: dict[str, Tensor]


def number_sources(
    run: SavedRun,
    steps: Iterable[Migration],
    load: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None,
) -> NumberSources:
    """Find out where the numbers of a migrated run come from.

    `run` is as before the migrations, float64, with an optimizer. If given,
    `load` returns the parameters that a loader makes of migrated weights.
    """
    import torch

    optimizer = run.optimizers[0]
    count = sum(run.state_dict[name].numel() for name in optimizer.names)
    generator = torch.Generator().manual_seed(0)
    # Positive, as second moments are. No two are equal, however many.
    noise = torch.rand(count, generator=generator, dtype=torch.float64)
    ranks = torch.randperm(count, generator=generator)
    marks = 1 + (ranks + noise / 2) / count
    marked = apply(_marked(run, marks), steps)
    ordered, order = marks.sort()

    def indices(tensor: Tensor) -> Tensor:
        nearest = torch.searchsorted(ordered, tensor.double())
        nearest = nearest.clamp(max=count - 1)
        return torch.where(ordered[nearest] == tensor, order[nearest], COMPUTED)

    arrived = marked.optimizers[0]
    weights = {name: marked.state_dict[name] for name in arrived.names}
    if load is not None:
        weights = load(marked.state_dict)
    found = {name: indices(weight) for name, weight in weights.items()}
    # A loader may rename what a migration has reset.
    heirs = dict(zip(arrived.names, weights, strict=False))
    reset: dict[str, Tensor] = {}
    for moment in arrived.reset:
        name, _, kind = moment.rpartition(".")
        computed = indices(arrived.moments[name][kind]) == COMPUTED
        heir = name if name in found else heirs[name]
        reset[heir] = computed | reset.get(heir, torch.zeros_like(computed))
    return NumberSources(found, reset)


def _marked(run: SavedRun, marks: Tensor) -> SavedRun:
    """Put marks in the place of weights and moments."""
    optimizer = run.optimizers[0]
    weights = dict(run.state_dict)
    moments = {}
    first = 0
    for name in optimizer.names:
        end = first + weights[name].numel()
        weights[name] = marks[first:end].reshape(weights[name].shape)
        first = end
        moments[name] = {
            kind: weights[name] if kind in POWERS else moment
            for kind, moment in optimizer.moments.get(name, {}).items()
        }
    moments = {name: kinds for name, kinds in moments.items() if kinds}
    marked = replace(optimizer, moments=moments, reset={})
    return replace(run, state_dict=weights, optimizers=[marked])
