"""From a checkpoint file to a saved run, and back to what a file holds.

A checkpoint numbers the parameters of its optimizer; a saved run names them,
so that a migration that renames, drops or reorders can't mix up moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.recognition import open_regular
from pytest_nlam_compat.migrations.operations.base import WITHOUT_OPTIMIZER
from pytest_nlam_compat.migrations.operations.graph import LEGACY
from pytest_nlam_compat.migrations.origin import raise_without_weights
from pytest_nlam_compat.migrations.releases import parameter_names
from pytest_nlam_compat.migrations.saved_run import (
    GraphTensor,
    Optimizer,
    SavedRun,
    Statistics,
    loaded,
)
from pytest_nlam_compat.migrations.stamps import STAMP, UPSTREAM_STAMP

if TYPE_CHECKING:
    from torch import Tensor

METAINFO = "metainfo.yaml"
_LONGEST_METAINFO = 4096


def saved_run_from_checkpoint(
    data: Mapping[str, Any],
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
    data : mapping
        The whole tree of a checkpoint, as ``Checkpoint.data``.
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
            named_optimizer(state, state_dict)
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
    return run.with_stored_types() if lazy else run.map_tensors(loaded)


def named_optimizer(state: Any, state_dict: Mapping[str, Tensor]) -> Optimizer:
    """Name the parameters of an entry of ``optimizer_states``.

    Raises
    ------
    CompatError
        It is not one group of all parameters in their order, with tensors of
        their shapes as its moments; then positions don't tell the names.
    """
    names = parameter_names(state_dict)
    group = _only_group(state, len(names))
    moments: dict[str, dict[str, Any]] = {}
    for position, name in enumerate(names):
        if position not in state["state"]:
            continue
        kinds = state["state"][position]
        if not isinstance(kinds, dict):
            raise _unfit(f"holds no table at position {position}")
        moments[name] = {
            # torch wrote the step as a number up to 1.11.
            kind: _scalar(value) if type(value) in (int, float) else value
            for kind, value in kinds.items()
        }
        for kind, moment in moments[name].items():
            expected = state_dict[name].shape
            shape = getattr(moment, "shape", None)
            if shape is None or (kind != "step" and shape != expected):
                raise CompatError(
                    f"The {kind} at position {position} doesn't fit the "
                    f"parameter {name!r}.",
                    facts={
                        "expected": tuple(expected),
                        "found": tuple(shape) if shape is not None else moment,
                    },
                    remedy=WITHOUT_OPTIMIZER,
                )
    return Optimizer(
        names=names,
        moments=moments,
        param_groups=[{k: v for k, v in group.items() if k != "params"}],
    )


def _only_group(state: Any, count: int) -> dict[str, Any]:
    """Return the one parameter group of an optimizer of `count` parameters."""
    groups = state.get("param_groups") if isinstance(state, dict) else None
    if not isinstance(groups, list) or not isinstance(state.get("state"), dict):
        raise _unfit("is not that of one in torch")
    if len(groups) != 1:
        raise CompatError(
            f"The optimizer has {len(groups)} parameter groups.",
            facts={"expected": "1, as every release of neural-lam has"},
            remedy=WITHOUT_OPTIMIZER,
        )
    group = groups[0] if isinstance(groups[0], dict) else {}
    positions = group.get("params")
    if not isinstance(positions, list):
        raise _unfit("does not say which parameters it has")
    if len(positions) != count:
        raise _unfit(
            "doesn't belong to the weights of this file",
            **{
                "parameters of the optimizer": len(positions),
                "parameters of the state_dict": count,
            },
        )
    if positions != list(range(count)) or not {*state["state"]} <= {*positions}:
        raise _unfit("is not by the numbers of its parameters")
    return group


def _unfit(what: str, **facts: object) -> CompatError:
    return CompatError(
        f"The optimizer state {what}.", facts=facts, remedy=WITHOUT_OPTIMIZER
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
    with open_regular(metainfo) as stream:
        text = stream.read(_LONGEST_METAINFO).decode(errors="replace")
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "spec_version":
            return value.strip().strip("'\"")
    return LEGACY
