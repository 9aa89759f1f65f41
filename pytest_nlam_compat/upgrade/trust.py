"""Refuse files that name unknown classes, or have malformed parts.

neural-lam's own loaders unpickle without limits: they run what a file names.
A file that was upgraded here is loaded there next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from pytest_nlam_compat.checkpoints.known import owner
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import (
    DISTRUST,
    printable,
    refusal,
)
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.migrations.stamps import STAMP

_MOST_SHOWN = 20


def refuse_unknown(checkpoint: Checkpoint, allowed: Collection[str]) -> None:
    """Refuse a file that names unknown classes.

    Parameters
    ----------
    checkpoint : Checkpoint
    allowed : collection of str
        Module and name of further classes to accept.

    Raises
    ------
    CompatError
        With the unknown classes.
    """
    unknown = [
        named.path
        for named in checkpoint.globals
        if owner(named) is None and named.path not in allowed
    ]
    if not unknown:
        return
    shown = ", ".join(printable(name) for name in unknown[:_MOST_SHOWN])
    more = len(unknown) - _MOST_SHOWN
    raise refusal(
        checkpoint.path,
        "names classes that no checkpoint of neural-lam contains",
        "neural-lam would run them when it loads the file. If you know who "
        "made the file and what they do, allow each by name: "
        + " ".join(f"--allow {printable(name)}" for name in unknown[:3])
        + (" ..." if len(unknown) > 3 else ""),
        unknown=f"{shown} and {more} more" if more > 0 else shown,
    )


def refuse_malformed(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose parts are not of the types Lightning writes.

    The rest of this package relies on them.

    Raises
    ------
    CompatError
        With the part, and what it should be.
    """
    for part, expected in _malformed(checkpoint.data):
        raise refusal(
            checkpoint.path,
            f"is not a Lightning checkpoint: its {part} is not a {expected}",
            DISTRUST,
        )


def _malformed(data: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    hyper_parameters = data.get("hyper_parameters", {})
    if not _is_table(hyper_parameters, str):
        yield "hyper_parameters", "table of names"
    states = data.get("optimizer_states", [])
    if not isinstance(states, list):
        yield "optimizer_states", "list"
    else:
        for state in states:
            yield from _malformed_optimizer(state)
    record = data.get(STAMP, {})
    if not _is_table(record, str):
        yield STAMP, "table of names"
    else:
        for name, fits in _RECORD.items():
            if name in record and not fits(record[name]):
                yield f"{STAMP}.{name}", "value that this package writes"


def _malformed_optimizer(state: Any) -> Iterator[tuple[str, str]]:
    part = "optimizer_states"
    if not _is_table(state, str):
        yield f"{part} entry", "table of names"
        return
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not all(
        _is_table(group, str) and _is_list(group.get("params"), int)
        for group in groups
    ):
        yield f"{part}.param_groups", "list of tables with params"
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
        yield f"{part}.state", "table of tensors by number and name"


def _is_table(value: Any, keys: type) -> bool:
    return isinstance(value, dict) and all(type(key) is keys for key in value)


def _is_list(value: Any, of: type) -> bool:
    return isinstance(value, list) and all(type(each) is of for each in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_RECORD: dict[str, Callable[[Any], bool]] = {
    "layout": _is_text,
    "migrations": lambda value: _is_list(value, str),
    "origin": _is_text,
    "evidence": lambda value: _is_list(value, str),
    "optimizer_reset": lambda value: (
        _is_table(value, str) and all(map(_is_text, value.values()))
    ),
    "stamp": lambda value: (
        _is_table(value, str)
        and isinstance(value.get("graph"), (dict, type(None)))
    ),
}
