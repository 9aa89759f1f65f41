"""How two checkpoint files differ, from their lists of contents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.upgrade.inspection import report

PREFIX = "forecaster.predictor."
_SAID = ("model", "graph", "parameters", "buffers", "callbacks")


def difference(first: Checkpoint, second: Checkpoint) -> dict[str, Any]:
    """Compare two checkpoints.

    Tensors are compared by the checksums that the files have of them; none is
    read. If only one file has the prefix of 0.7, the names are compared
    without it.

    Parameters
    ----------
    first, second : Checkpoint
        Open.

    Returns
    -------
    dict
        Plain data, for JSON: ``files``, ``origin`` (two releases),
        ``without_prefix``, ``changed`` (path to pair of values),
        ``only_in_first``, ``only_in_second``, ``other_layout``,
        ``other_values``, ``not_compared`` (names of tensors) and
        ``same_values`` (how many).
    """
    reports = (report(first), report(second))
    prefixed = [_has_prefix(found) for found in reports]
    bare = prefixed[0] != prefixed[1]
    tensors = [_tensors(one, bare) for one in (first, second)]
    common = [name for name in tensors[0] if name in tensors[1]]
    compared = {
        name: _compare(tensors[0][name], tensors[1][name]) for name in common
    }
    return {
        "files": [found["file"] for found in reports],
        "origin": [found["origin"]["release"] for found in reports],
        "without_prefix": PREFIX if bare else None,
        "changed": _changed(*map(_said, reports)),
        "only_in_first": [n for n in tensors[0] if n not in tensors[1]],
        "only_in_second": [n for n in tensors[1] if n not in tensors[0]],
        **{
            verdict: [n for n in common if compared[n] == verdict]
            for verdict in ("other_layout", "other_values", "not_compared")
        },
        "same_values": list(compared.values()).count("same_values"),
    }


def text(found: Mapping[str, Any]) -> str:
    """Write a difference as text.

    Parameters
    ----------
    found : mapping
        From `difference`.

    Returns
    -------
    str
        Lines without one at the end.
    """
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for file, release in zip(found["files"], found["origin"], strict=True):
        yield f"{file}: neural-lam {release or 'unknown'}"
    same = "" if found["changed"] else " the same"
    yield f"hyper-parameters and the rest:{same}"
    for name, (old, new) in found["changed"].items():
        yield f"  {name}: {_value(old)} -> {_value(new)}"
    if found["without_prefix"]:
        yield f"tensors, compared without {found['without_prefix']}:"
    else:
        yield "tensors:"
    yield f"  {found['same_values']} have the same values"
    for key, what in (
        ("only_in_first", "only in the first"),
        ("only_in_second", "only in the second"),
        ("other_layout", "of another shape or type"),
        ("other_values", "with other values"),
        ("not_compared", "stored in another way, not compared"),
    ):
        if found[key]:
            yield f"  {len(found[key])} {what}:"
            yield from (f"    {name}" for name in found[key])


def _has_prefix(found: Mapping[str, Any]) -> bool:
    return any(row["name"].startswith(PREFIX) for row in found["tensors"])


def _tensors(checkpoint: Checkpoint, bare: bool) -> dict[str, TensorRef]:
    table = checkpoint.tensors()
    if bare:
        table = {
            name.replace(f"state_dict.{PREFIX}", "state_dict.", 1): ref
            for name, ref in table.items()
        }
    return {printable(name, 1000): ref for name, ref in table.items()}


def _compare(first: TensorRef, second: TensorRef) -> str:
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return "other_layout"
    if 0 in first.shape:
        return "same_values"
    records = [
        ref.storage.archive.records[ref.storage.record]
        for ref in (first, second)
    ]
    views = [
        (ref.offset, ref.stride, record.size)
        for ref, record in zip((first, second), records, strict=True)
    ]
    if views[0] != views[1]:
        return "not_compared"
    sums = [
        ref.storage.archive.checksum(ref.storage.record)
        for ref in (first, second)
    ]
    return "same_values" if sums[0] == sums[1] else "other_values"


def _said(found: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what else is compared, by path."""
    said = {name: found[name] for name in _SAID}
    said |= found["training"]
    for named in found["classes"]:
        said[f"class {named['name']}"] = "named"
    for index, optimizer in enumerate(found["optimizers"]):
        said[f"optimizer {index}"] = {
            key: optimizer[key] for key in ("groups", "state", "parameters")
        }
    return {
        **said,
        **{
            f"hyper_parameters.{name}": value
            for name, value in found["hyper_parameters"].items()
        },
    }


def _changed(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, list[Any]]:
    return {
        name: [first.get(name, _ABSENT), second.get(name, _ABSENT)]
        for name in {**first, **second}
        if first.get(name, _ABSENT) != second.get(name, _ABSENT)
    }


_ABSENT = "(absent)"


def _value(value: Any) -> str:
    if value == _ABSENT:
        return _ABSENT
    return json.dumps(value, ensure_ascii=False)
