"""From a checkpoint file to a saved run, and back to what a file holds.

A checkpoint numbers the parameters of its optimizer; a saved run names them,
so that a migration that renames, drops or reorders can't mix up moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import WITHOUT_OPTIMIZER
from pytest_nlam_compat.migrations.operations.graph import LEGACY
from pytest_nlam_compat.migrations.origin import raise_without_weights
from pytest_nlam_compat.migrations.releases import parameter_names
from pytest_nlam_compat.migrations.saved_run import (
    WEIGHT,
    GraphTensor,
    Optimizer,
    SavedRun,
    Statistics,
    dtype_name,
    loaded,
)
from pytest_nlam_compat.migrations.stamps import STAMP, UPSTREAM_STAMP

if TYPE_CHECKING:
    from torch import Tensor

METAINFO = "metainfo.yaml"
_LONGEST_METAINFO = 4096


class Readable(Protocol):
    """What is needed of a `checkpoints.reader.Checkpoint`."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The whole tree, with tensors as `TensorRef`."""


def saved_run_from_checkpoint(
    checkpoint: Readable,
    *,
    graph: Mapping[str, GraphTensor] | None = None,
    graph_format: str = "legacy",
    statistics: Statistics | None = None,
    grid_shape: tuple[int, int] | None = None,
    lazy: bool = False,
) -> SavedRun:
    """Read a checkpoint into a saved run.

    Parameters
    ----------
    checkpoint : Checkpoint
        An open file.
    graph, graph_format, statistics, grid_shape
        Parts of the `SavedRun` that come with no checkpoint.
    lazy : bool
        Keep each tensor as a `TensorRef` until a migration needs its values;
        the file must stay open meanwhile. By default all are loaded here.

    Raises
    ------
    CompatError
        The file holds no weights, or its optimizer doesn't fit them.
    """
    data = checkpoint.data
    raise_without_weights(data)
    state_dict = {str(name): ref for name, ref in data["state_dict"].items()}
    others = [
        name
        for name, ref in state_dict.items()
        if not isinstance(ref, TensorRef)
    ]
    if others:
        raise CompatError(
            "The state_dict holds more than tensors.",
            facts={"found": ", ".join(others)},
            remedy="Write a migration for it, or drop it from the file.",
        )
    run = SavedRun(
        state_dict=state_dict,
        hyper_parameters=dict(data.get("hyper_parameters", {})),
        optimizers=[
            _named_optimizer(state, state_dict)
            for state in data.get("optimizer_states", [])
        ],
        graph=dict(graph or {}),
        graph_format=graph_format,
        grid_shape=grid_shape,
        statistics=statistics,
        stamps={
            key: data[key] for key in (STAMP, UPSTREAM_STAMP) if key in data
        },
    )
    if lazy:
        return replace(run, stored_types=_stored_types(run))
    return run.map_tensors(loaded)


def _stored_types(run: SavedRun) -> dict[tuple[str, str], str]:
    """Note the type of each weight and moment."""
    types = {(n, WEIGHT): dtype_name(t) for n, t in run.state_dict.items()}
    for optimizer in run.optimizers:
        for name, kinds in optimizer.moments.items():
            types |= {(name, k): dtype_name(t) for k, t in kinds.items()}
    return types


def _named_optimizer(
    state: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Optimizer:
    """Name the parameters of an entry of ``optimizer_states``."""
    groups = state["param_groups"]
    if len(groups) != 1:
        raise CompatError(
            f"The optimizer has {len(groups)} parameter groups.",
            facts={"expected": "1, as every release of neural-lam has"},
            remedy=WITHOUT_OPTIMIZER,
        )
    names = parameter_names(state_dict)
    positions = list(groups[0]["params"])
    if len(positions) != len(names):
        raise CompatError(
            "The optimizer state doesn't belong to the weights of this file.",
            facts={
                "parameters of the optimizer": len(positions),
                "parameters of the state_dict": len(names),
            },
            remedy=WITHOUT_OPTIMIZER,
        )
    moments: dict[str, dict[str, Any]] = {}
    for position, name in zip(positions, names, strict=True):
        if position not in state["state"]:
            continue
        moments[name] = {
            # torch wrote the step as a number up to 1.11.
            kind: value if isinstance(value, TensorRef) else _scalar(value)
            for kind, value in state["state"][position].items()
        }
        for kind, moment in moments[name].items():
            expected = state_dict[name].shape
            if kind != "step" and moment.shape != expected:
                raise CompatError(
                    f"The {kind} at position {position} doesn't fit the "
                    f"parameter {name!r}.",
                    facts={
                        "expected": tuple(expected),
                        "found": tuple(moment.shape),
                    },
                    remedy=WITHOUT_OPTIMIZER,
                )
    return Optimizer(
        names=names,
        moments=moments,
        param_groups=[{k: v for k, v in groups[0].items() if k != "params"}],
    )


def _scalar(value: float) -> Tensor:
    import torch

    return torch.tensor(value, dtype=torch.float32)


def to_checkpoint_dict(run: SavedRun) -> dict[str, Any]:
    """Return the parts of a checkpoint file that a saved run has.

    ``state_dict``, ``optimizer_states`` (by position again), and
    ``hyper_parameters``, with its stand-ins.
    """
    return {
        "state_dict": dict(run.state_dict),
        "optimizer_states": [_positional(each) for each in run.optimizers],
        "hyper_parameters": dict(run.hyper_parameters),
    }


def _positional(optimizer: Optimizer) -> dict[str, Any]:
    names = optimizer.names
    return {
        "state": {
            position: dict(optimizer.moments[name])
            for position, name in enumerate(names)
            if name in optimizer.moments
        },
        "param_groups": [
            {**group, "params": list(range(len(names)))}
            for group in optimizer.param_groups
        ],
    }


def graph_format(folder: Path) -> str:
    """Return ``spec_version`` of a graph directory, ``"legacy"`` without.

    ``metainfo.yaml`` (from #323 on) has that one entry; no other YAML is read.
    """
    metainfo = folder / METAINFO
    if not metainfo.exists():
        return LEGACY
    with metainfo.open(encoding="utf-8", errors="replace") as stream:
        for line in stream.read(_LONGEST_METAINFO).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "spec_version":
                return value.strip().strip("'\"")
    return LEGACY
