"""The report on a checkpoint, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_UNITS = ("bytes", "kB", "MB", "GB", "TB")

NEEDED = {
    "graph": "the graph directory it was trained with (--graph)",
    "grid_shape": "the grid of its dataset (--statistics or --datastore)",
    "statistics": "the statistics of its dataset (--statistics or --datastore)",
}


def text(report: Mapping[str, Any]) -> str:
    """Write a report as text.

    Parameters
    ----------
    report : mapping
        From `inspection.report`.

    Returns
    -------
    str
        Lines without one at the end.
    """
    return "\n".join(_lines(report))


def size(count: int) -> str:
    """Write a number of bytes as people do."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{0 if unit == 0 else 1}f} {_UNITS[unit]}"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    origin = report["origin"]
    yield f"{report['file']}: {size(report['bytes'])}"
    yield f"written by: neural-lam {origin['release'] or 'unknown'}"
    if origin["problem"]:
        yield f"  {origin['problem']}"
    for found in origin["evidence"]:
        yield f"  {found}"
    record = report["record"]
    if isinstance(record, dict) and record.get("origin"):
        yield f"  before it was upgraded: {record['origin']}"
    yield f"model: {report['model'] or 'not said'}"
    yield f"graph: {report['graph'] or 'not said'}"
    for name, value in report["training"].items():
        yield f"{name}: {value}"
    yield from _way(report)
    yield from _optimizers(report)
    if report["callbacks"]:
        yield "callbacks:"
        for name in report["callbacks"]:
            yield f"  {name}"
    if report["classes"]:
        yield "classes named in its pickle:"
    for named in report["classes"]:
        mark = named["from"] or "UNKNOWN: may run anything when it is loaded"
        yield f"  {named['name']}  ({mark})"
    yield (
        "hyper-parameters:"
        if report["hyper_parameters"]
        else ("hyper-parameters: none")
    )
    for name, value in report["hyper_parameters"].items():
        yield f"  {name}: {json.dumps(value, ensure_ascii=False)}"
    yield from _tensors(report)


def _way(report: Mapping[str, Any]) -> Iterator[str]:
    steps = report["migrations"]
    if steps is None:
        yield f"migrations to {report['to']}: unknown, as is who wrote it"
        return
    if not steps:
        yield f"migrations to {report['to']}: none"
        return
    yield f"migrations to {report['to']}:"
    for step in steps:
        yield f"  {step['id']}"
    for need in report["needs"]:
        yield f"  needs {NEEDED[need]}"


def _optimizers(report: Mapping[str, Any]) -> Iterator[str]:
    for optimizer in report["optimizers"]:
        kept = ", ".join(optimizer["state"]) or "nothing"
        yield (
            f"optimizer: {kept} of {optimizer['parameters']} parameters, "
            f"{size(optimizer['bytes'])}"
        )
        for group in optimizer["groups"]:
            shown = ", ".join(f"{name} {group[name]}" for name in group)
            yield f"  {shown}"
    yield f"learning rate schedulers: {report['lr_schedulers']}"


def _tensors(report: Mapping[str, Any]) -> Iterator[str]:
    rows = report["tensors"]
    total = sum(row["bytes"] for row in rows)
    yield (
        f"tensors: {len(rows)}, {size(total)}; {report['parameters']:,} "
        f"parameters, {report['buffers']} buffers"
    )
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        yield (
            f"  {row['name']:<{width}}  {row['dtype']} "
            f"{row['shape']}, {size(row['bytes'])}"
        )
