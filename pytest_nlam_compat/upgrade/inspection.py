"""What can be said about a checkpoint file from the file alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.known import owner
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.parameters import parameter_names
from pytest_nlam_compat.migrations.planning import in_order
from pytest_nlam_compat.migrations.releases import RELEASES
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.plain import flat, plain

NEWEST = RELEASES[-1]
_LONGEST_NAME = 1000


def report(checkpoint: Checkpoint) -> dict[str, Any]:
    """Describe a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open; none of its tensors is read.

    Returns
    -------
    dict
        Plain data, for JSON: ``file``, ``bytes``, ``origin``, ``record``,
        ``training``, ``model``, ``graph``, ``hyper_parameters``,
        ``parameters``, ``buffers``, ``tensors``, ``optimizers``,
        ``lr_schedulers``, ``callbacks``, ``classes``, ``migrations``,
        ``needs`` and ``to``.
    """
    data = checkpoint.data if isinstance(checkpoint.data, dict) else {}
    hyper_parameters = data.get("hyper_parameters")
    if not isinstance(hyper_parameters, dict):
        hyper_parameters = {}
    arguments = flat(hyper_parameters.get("args", {}))
    weights = _weights(data)
    parameters = set(parameter_names(weights))
    origin = _origin(data)
    return {
        "file": str(checkpoint.path),
        "bytes": checkpoint.archive.size,
        "origin": origin,
        "record": plain(data.get(STAMP)),
        "training": {
            name: plain(data[name])
            for name in ("epoch", "global_step", "pytorch-lightning_version")
            if name in data
        },
        "model": arguments.get("model"),
        "graph": arguments.get("graph"),
        "hyper_parameters": flat(hyper_parameters),
        "parameters": sum(
            ref.numel for name, ref in weights.items() if name in parameters
        ),
        "buffers": len(weights) - len(parameters),
        "tensors": [
            {
                "name": printable(name, _LONGEST_NAME),
                "shape": list(ref.shape),
                "dtype": ref.dtype,
                "bytes": ref.nbytes,
            }
            for name, ref in _shown(checkpoint, weights).items()
        ],
        "optimizers": [
            _optimizer(state) for state in _list(data, "optimizer_states")
        ],
        "lr_schedulers": len(_list(data, "lr_schedulers")),
        "callbacks": _callbacks(data),
        "classes": [
            {"name": named.path, "from": owner(named)}
            for named in checkpoint.globals
        ],
        **_way(origin["release"], weights, hyper_parameters),
    }


def _weights(data: Mapping[str, Any]) -> dict[str, TensorRef]:
    table = data.get("state_dict")
    if not isinstance(table, dict):
        return {}
    return {
        str(name): ref
        for name, ref in table.items()
        if isinstance(ref, TensorRef)
    }


def _shown(
    checkpoint: Checkpoint, weights: dict[str, TensorRef]
) -> dict[str, TensorRef]:
    """Give the weights; all tensors of a file without weights."""
    return weights or checkpoint.tensors()


def _origin(data: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(data.get("state_dict"), dict):
        return {
            "release": None,
            "evidence": [],
            "problem": "It has no state_dict: no checkpoint of a training.",
        }
    try:
        origin = detect_origin(data)
    except CompatError as error:
        return {
            "release": None,
            "evidence": [plain(f"{k}: {v}") for k, v in error.facts.items()],
            "problem": error.what,
        }
    return {
        "release": origin.release,
        "evidence": [plain(str(found)) for found in origin.evidence],
        "problem": None,
    }


def _optimizer(state: Any) -> dict[str, Any]:
    table = state if isinstance(state, dict) else {}
    groups = [
        {
            printable(str(name)): plain(value)
            for name, value in group.items()
            if name != "params"
        }
        for group in _list(table, "param_groups")
        if isinstance(group, dict)
    ]
    moments = table.get("state")
    entries = list(moments.values()) if isinstance(moments, dict) else []
    kinds = {
        printable(str(kind)): None
        for entry in entries
        if isinstance(entry, dict)
        for kind in entry
    }
    size = sum(
        value.nbytes
        for entry in entries
        if isinstance(entry, dict)
        for value in entry.values()
        if isinstance(value, TensorRef)
    )
    return {
        "groups": groups,
        "parameters": len(entries),
        "state": list(kinds),
        "bytes": size,
    }


def _callbacks(data: Mapping[str, Any]) -> list[str]:
    table = data.get("callbacks")
    if not isinstance(table, dict):
        return []
    # Up to Lightning 1.4 the keys were the classes themselves.
    return [
        printable(str(getattr(key, "path", key)), _LONGEST_NAME)
        for key in table
    ]


def _way(
    release: str | None,
    weights: Mapping[str, TensorRef],
    hyper_parameters: dict[str, Any],
) -> dict[str, Any]:
    """Give the migrations to the newest release, and what they need."""
    if release is None:
        return {"to": NEWEST, "migrations": None, "needs": None}
    from packaging.version import Version

    # Nothing reads a tensor: predicates go by names and hyper-parameters.
    names: dict[str, Any] = dict(weights)
    run = SavedRun(state_dict=names, hyper_parameters=hyper_parameters)
    steps = [
        step
        for step in in_order(HISTORY)
        if step.applies(Version(release), Version(NEWEST), run)
    ]
    needs = {need: None for step in steps for need in step.needs}
    return {
        "to": NEWEST,
        "migrations": [
            {
                "id": step.id,
                "since": step.since,
                "reason": step.reason,
                "needs": list(step.needs),
            }
            for step in steps
        ],
        "needs": list(needs),
    }


def _list(table: Mapping[str, Any], name: str) -> list[Any]:
    value = table.get(name)
    return value if isinstance(value, list) else []
