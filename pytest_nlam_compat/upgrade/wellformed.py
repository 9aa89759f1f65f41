"""Refusing checkpoints whose parts are of other kinds than Lightning writes.

What follows takes them for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import DISTRUST, refusal
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.migrations.stamps import STAMP


def refuse_malformed(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint with a part of another kind.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open; with a state_dict.

    Raises
    ------
    CompatError
        With the part, and what it should be.
    """
    for place, expected in _wrong(checkpoint.data):
        raise refusal(
            checkpoint.path,
            f"is no checkpoint of Lightning: its {place} is no {expected}",
            DISTRUST,
        )


def _wrong(data: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    hyper_parameters = data.get("hyper_parameters", {})
    if not _is_table(hyper_parameters, str):
        yield "hyper_parameters", "table of names"
    states = data.get("optimizer_states", [])
    if not isinstance(states, list):
        yield "optimizer_states", "list"
    else:
        for state in states:
            yield from _wrong_optimizer(state)
    record = data.get(STAMP, {})
    if not _is_table(record, str):
        yield STAMP, "table of names"
    else:
        for name, fits in _RECORD.items():
            if name in record and not fits(record[name]):
                yield f"{STAMP}.{name}", "entry as this package writes it"


def _wrong_optimizer(state: Any) -> Iterator[tuple[str, str]]:
    place = "optimizer_states"
    if not _is_table(state, str):
        yield f"{place} entry", "table of names"
        return
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not all(
        _is_table(group, str) and _is_list(group.get("params"), int)
        for group in groups
    ):
        yield f"{place}.param_groups", "list of tables with params"
    moments = state.get("state")
    if not _is_table(moments, int) or not all(
        _is_table(kinds, str)
        # torch wrote the step as a number up to 1.11.
        and all(
            isinstance(moment, (TensorRef, int, float))
            for moment in kinds.values()
        )
        for kinds in moments.values()
    ):
        yield f"{place}.state", "table of tensors by number and name"


def _is_table(value: Any, keys: type) -> bool:
    return isinstance(value, dict) and all(type(key) is keys for key in value)


def _is_list(value: Any, of: type) -> bool:
    return isinstance(value, list) and all(type(each) is of for each in value)


def _is_texts(value: Any) -> bool:
    return _is_table(value, str) and all(
        isinstance(text, str) for text in value.values()
    )


_RECORD: dict[str, Callable[[Any], bool]] = {
    "layout": lambda value: isinstance(value, str),
    "migrations": lambda value: _is_list(value, str),
    "origin": lambda value: isinstance(value, str),
    "evidence": lambda value: _is_list(value, str),
    "optimizer_reset": _is_texts,
    "stamp": lambda value: (
        _is_table(value, str)
        and isinstance(value.get("graph", None), (dict, type(None)))
    ),
}
