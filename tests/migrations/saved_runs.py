"""Small saved runs for these tests, with moments for every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.migrations import Optimizer, SavedRun, Statistics
from pytest_nlam_compat.migrations.releases import parameter_names

KINDS = ("exp_avg", "exp_avg_sq")


def saved_run(
    shapes: Mapping[str, tuple[int, ...]], seed: int = 0, **more: Any
) -> SavedRun:
    """Make a float64 run of random weights; squares are positive."""
    generator = torch.Generator().manual_seed(seed)

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {name: random(shape) for name, shape in shapes.items()}
    names = parameter_names(weights)
    moments = {
        name: {
            "step": torch.tensor(2.0),
            "exp_avg": random(shapes[name]),
            "exp_avg_sq": random(shapes[name]) ** 2,
        }
        for name in names
    }
    given = {
        "hyper_parameters": {},
        "optimizers": [Optimizer(names, moments, [{"lr": 1e-3}])],
    }
    return SavedRun(state_dict=weights, **(given | more))


def namespace(**values: Any) -> InertObject:
    return InertObject(GlobalRef("argparse", "Namespace"), state=values)


def moment(run: SavedRun, name: str, kind: str) -> Tensor:
    return run.optimizers[0].moments[name][kind]


def everything(run: SavedRun) -> dict[str, Tensor]:
    """List all weights and moments by a name, in order."""
    tensors = dict(run.state_dict)
    for optimizer in run.optimizers:
        for name in optimizer.names:
            for kind, tensor in optimizer.moments.get(name, {}).items():
                tensors[f"{kind} of {name}"] = tensor
    return tensors


def same(one: SavedRun, other: SavedRun) -> bool:
    """Compare bit for bit, with names, order and the rest of the run."""
    left, right = everything(one), everything(other)
    return (
        list(left) == list(right)
        and all(torch.equal(left[name], right[name]) for name in left)
        # Stand-ins are equal only to themselves; their text says it all.
        and repr(one.hyper_parameters) == repr(other.hyper_parameters)
        and [o.reset for o in one.optimizers]
        == [o.reset for o in other.optimizers]
        and graphs_equal(one, other)
    )


def graphs_equal(one: SavedRun, other: SavedRun) -> bool:
    if list(one.graph) != list(other.graph):
        return False
    for stem, content in one.graph.items():
        left = content if isinstance(content, list) else [content]
        counterpart = other.graph[stem]
        right = counterpart if isinstance(counterpart, list) else [counterpart]
        if len(left) != len(right) or not all(map(torch.equal, left, right)):
            return False
    return True


def statistics() -> Statistics:
    """Three static features; x from -1 to 4, y from 0 to 2."""
    return Statistics(
        {
            "static_mean": torch.tensor([50.0, 1.0, 1.5]),
            "static_std": torch.tensor([8.0, 0.5, 2.0]),
            "static_min": torch.tensor([40.0, 0.0, -1.0]),
            "static_max": torch.tensor([60.0, 2.0, 4.0]),
            "state_std": torch.tensor([2.0, 0.5]),
            "state_diff_mean": torch.tensor([0.25, -1.0]),
            "state_diff_std": torch.tensor([0.5, 4.0]),
        },
        ["height", "y", "x"],
    )
