"""Checkpoints that a tool has put together from the shards of many processes.

Lightning names their parts otherwise: ``model`` or ``state_dict``, and
``optimizer_0``, whose parameters have names instead of numbers. DeepSpeed's
tool leaves the weights alone, without anything around them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.migrations.releases import parameter_names, unwrapped

_OPTIMIZER = re.compile("optimizer_[0-9]+")


def as_checkpoint(data: Any) -> tuple[Any, str | None]:
    """Return a tree as Lightning has it in one file, and what was changed.

    The same tree, and None, if it is one already, or something else.
    """
    if not isinstance(data, dict):
        return data, None
    if _is_weights(data):
        return {"state_dict": data}, "The weights were put under state_dict."
    weights = "state_dict" if "state_dict" in data else "model"
    if not _is_weights(data.get(weights)):
        return data, None
    states = [n for n in data if _OPTIMIZER.fullmatch(str(n))]
    if "optimizer_states" in data or (weights == "state_dict" and not states):
        return data, None
    names = parameter_names(map(unwrapped, data[weights]))
    parts = {n: v for n, v in data.items() if n not in (weights, *states)}
    parts["state_dict"] = data[weights]
    if states:
        parts["optimizer_states"] = [
            _by_number(data[each], names) for each in sorted(states)
        ]
    told = ", ".join([weights, *states])
    return parts, f"Parts of a sharded checkpoint were renamed: {told}."


def _is_weights(table: Any) -> bool:
    return (
        isinstance(table, dict)
        and all(isinstance(name, str) for name in table)
        and all(isinstance(each, TensorRef) for each in table.values())
        # Of every model of neural-lam, and of nothing else.
        and any("g2m_embedder" in name.split(".") for name in table)
    )


def _by_number(state: Any, names: list[str]) -> Any:
    """Give parameters numbers in an optimizer's state that has names."""
    numbers = {name: number for number, name in enumerate(names)}
    try:
        moments: Mapping[str, Any] = state["state"]
        groups: list[dict[str, Any]] = state["param_groups"]
        found = {numbers[unwrapped(n)]: each for n, each in moments.items()}
        return {
            "state": dict(sorted(found.items())),
            "param_groups": [
                {**g, "params": [numbers[unwrapped(n)] for n in g["params"]]}
                for g in groups
            ],
        }
    except (KeyError, TypeError, AttributeError):
        # Judged later, unless it is left out.
        return state
