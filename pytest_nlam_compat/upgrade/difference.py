"""Compare two checkpoint files without loading their tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_nlam_compat.checkpoints import walk
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.releases import PREFIX
from pytest_nlam_compat.upgrade.inspection import report

_COMPARED = ("model", "graph", "parameters", "buffers", "callbacks")
_ABSENT = "(absent)"


def difference(first: Checkpoint, second: Checkpoint) -> dict[str, Any]:
    """Compare two open checkpoints; the result is plain data.

    Tensors are compared by the checksums in the files; none is read. If only
    one file has the prefix of 0.7, the names are compared without it.
    """
    reports = (report(first), report(second))
    prefixed = [
        any(row["name"].startswith(PREFIX) for row in found["tensors"])
        for found in reports
    ]
    bare = prefixed[0] != prefixed[1]
    tensors = [_tensors(one, bare) for one in (first, second)]
    common = [name for name in tensors[0] if name in tensors[1]]
    verdicts = {
        name: _compare(tensors[0][name], tensors[1][name]) for name in common
    }
    return {
        "files": [found["file"] for found in reports],
        "origin": [found["origin"]["release"] for found in reports],
        "without_prefix": PREFIX if bare else None,
        "changed": _changed(*map(_contents, reports)),
        "only_in_first": [n for n in tensors[0] if n not in tensors[1]],
        "only_in_second": [n for n in tensors[1] if n not in tensors[0]],
        **{
            verdict: [n for n in common if verdicts[n] == verdict]
            for verdict in ("other_layout", "other_values", "not_compared")
        },
        "same_values": list(verdicts.values()).count("same_values"),
    }


def difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Write a `difference` as text for a terminal."""
    for file, release in zip(found["files"], found["origin"], strict=True):
        yield f"{file}: neural-lam {release or 'unknown'}"
    same = "" if found["changed"] else " the same"
    yield f"hyper-parameters and metadata:{same}"
    for name, values in found["changed"].items():
        old, new = (
            value if value == _ABSENT else json.dumps(value, ensure_ascii=False)
            for value in values
        )
        yield f"  {name}: {old} -> {new}"
    if found["without_prefix"]:
        yield f"tensors, compared without {found['without_prefix']}:"
    else:
        yield "tensors:"
    yield f"  {found['same_values']} have the same values"
    for key, what in (
        ("only_in_first", "only in the first"),
        ("only_in_second", "only in the second"),
        ("other_layout", "with another shape or type"),
        ("other_values", "with other values"),
        ("not_compared", "stored in another way, not compared"),
    ):
        if found[key]:
            yield f"  {len(found[key])} {what}:"
            yield from (f"    {name}" for name in found[key])


def _tensors(checkpoint: Checkpoint, bare: bool) -> dict[str, TensorRef]:
    table = walk.tensors(checkpoint.data)
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
    storages = (first.storage, second.storage)
    sizes = [each.archive.records[each.record].size for each in storages]
    views = [(ref.offset, ref.stride) for ref in (first, second)]
    if views[0] != views[1] or sizes[0] != sizes[1]:
        return "not_compared"
    sums = [each.archive.checksum(each.record) for each in storages]
    return "same_values" if sums[0] == sums[1] else "other_values"


def _contents(found: Mapping[str, Any]) -> dict[str, Any]:
    """Collect everything but the tensors by path."""
    contents = {name: found[name] for name in _COMPARED}
    contents |= found["training"]
    contents |= {f"class {each['name']}": "named" for each in found["classes"]}
    for index, optimizer in enumerate(found["optimizers"]):
        contents[f"optimizer {index}"] = {
            key: optimizer[key] for key in ("groups", "state", "parameters")
        }
    for name, value in found["hyper_parameters"].items():
        contents[f"hyper_parameters.{name}"] = value
    return contents


def _changed(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, list[Any]]:
    return {
        name: [first.get(name, _ABSENT), second.get(name, _ABSENT)]
        for name in {**first, **second}
        if first.get(name, _ABSENT) != second.get(name, _ABSENT)
    }
