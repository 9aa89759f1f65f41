"""Refuse files that name unknown classes, or have malformed parts.

neural-lam's own loaders unpickle without limits: they run what a file names.
A file that was upgraded here is loaded there next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from pytest_nlam_compat.checkpoints.known import KNOWN
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.errors import join_some
from pytest_nlam_compat.files.refusals import printable, refusal
from pytest_nlam_compat.migrations.stamps import STAMP

_MOST_SHOWN = 20


def refuse_unknown(checkpoint: Checkpoint, allowed: Collection[str]) -> None:
    """Refuse a file that names classes neither known nor ``allowed``."""
    unknown = [
        named.path
        for named in checkpoint.globals
        if named not in KNOWN and named.path not in allowed
    ]
    if not unknown:
        return
    raise refusal(
        checkpoint.path,
        "names classes that no checkpoint of neural-lam contains",
        "neural-lam would run them when it loads the file. If you know who "
        "made the file and what they do, allow each by name: "
        + " ".join(f"--allow {printable(name)}" for name in unknown[:3])
        + (" ..." if len(unknown) > 3 else ""),
        unknown=join_some(map(printable, unknown), _MOST_SHOWN),
    )


def refuse_malformed(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose parts are not of the types Lightning writes.

    The rest of this package relies on them.
    """
    for fits, problem in _checks(checkpoint.data):
        if not fits:
            what = f"is not a checkpoint of Lightning: {problem}"
            remedy = "Pass a file that Trainer.save_checkpoint wrote."
            raise refusal(checkpoint.path, what, remedy)


def _checks(data: Any) -> Iterator[tuple[bool, str]]:
    """Check part after part; each relies on those before it."""
    weights = data.get("state_dict") if isinstance(data, dict) else None
    yield isinstance(weights, dict), "it has no state_dict"
    for name in ("hyper_parameters", STAMP):
        is_table = _is_table(data.get(name, {}), str)
        yield is_table, f"its {name} is not a table of names"
    states = data.get("optimizer_states", [])
    yield isinstance(states, list), "its optimizer_states is not a list"
    record = data.get(STAMP, {})
    for name, check in _RECORD.items():
        fits = name not in record or check(record[name])
        yield fits, f"its {STAMP}.{name} is not as this package writes it"


def _is_table(value: Any, keys: type) -> bool:
    return isinstance(value, dict) and all(type(key) is keys for key in value)


def _is_list(value: Any, of: type) -> bool:
    return isinstance(value, list) and all(type(each) is of for each in value)


_RECORD: dict[str, Callable[[Any], bool]] = {
    "layout": lambda value: isinstance(value, str),
    "graph_fingerprint": lambda value: isinstance(value, str),
    "migrations": lambda value: _is_list(value, str),
    "repository": lambda value: _is_list(value, str),
    "origin": lambda value: isinstance(value, str),
    "evidence": lambda value: _is_list(value, str),
    "optimizer_reset": lambda value: (
        _is_table(value, str) and _is_list([*value.values()], str)
    ),
    "stamp": lambda value: (
        _is_table(value, str)
        and isinstance(value.get("graph"), (dict, type(None)))
    ),
}
