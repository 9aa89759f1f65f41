"""A report on a checkpoint file as text, on one screen."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_nlam_compat.errors import counted, join_some

# A screen has 24 lines, and the rest of it needs 14.
_MOST_PARTS = 7
_MOST_LINES = 3

_DATASET = "the statistics of its dataset"
_NEEDS = {
    "graph": "its graph directory",
    "grid_shape": _DATASET,
    "statistics": _DATASET,
}


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Write what matters of a `report`, which says what to run next."""
    yield from _head(report)
    if report["training"]:
        shown = [f"{name} {each}" for name, each in report["training"].items()]
        yield f"trained: {', '.join(shown)}"
    devices = [each for part in report["parts"] for each in part["devices"]]
    if devices:
        yield f"saved on: {join_some(dict.fromkeys(devices))}"
    if report["migrations"] is not None:
        yield f"to neural-lam {report['to']}: {_upgrade_of(report)}"
    if report["next"]:
        yield "run next:"
        yield f"  {report['next']}"
    yield from _part_lines(report)
    unknown = [each for each in report["classes"] if not each["from"]]
    if unknown:
        yield "classes that no checkpoint of neural-lam contains:"
        for named in unknown[:_MOST_LINES]:
            mark = "UNKNOWN: may run anything when it is loaded"
            yield f"  {named['name']}  ({mark})"
    yield "all of it:"
    yield f"  nlam-compat inspect --json {shlex.quote(report['file'])}"


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    origin, record = report["origin"], report["record"]
    yield f"{report['file']}: {_size(report['bytes'])}"
    yield f"written by: neural-lam {origin['release'] or 'unknown'}"
    if origin["problem"]:
        yield f"  {origin['problem']}"
        # What is left after all evidence comes last.
        for found in origin["evidence"][-_MOST_LINES:]:
            yield f"  {found}"
    if isinstance(record, dict) and record.get("origin"):
        yield f"  before it was upgraded: {record['origin']}"
    count = f", {report['parameters']:,} parameters" * bool(report["model"])
    yield f"model: {report['model'] or 'unknown'}{count}"
    yield f"graph: {report['graph'] or 'unknown'}"
    if report["weight_sets"]:
        sets = join_some(report["weight_sets"], most=3)
        yield f"further sets of weights: {sets}"


def _upgrade_of(report: Mapping[str, Any]) -> str:
    if not report["migrations"]:
        return "nothing to change"
    steps = counted(len(report["migrations"]), "step")
    needs = " and ".join(dict.fromkeys(_NEEDS[n] for n in report["needs"]))
    return f"{steps}, with {needs}" if needs else steps


def _part_lines(report: Mapping[str, Any]) -> Iterator[str]:
    parts = report["parts"]
    if parts:
        yield "parts:"
    width = max((len(part["name"]) for part in parts), default=0)
    for part in parts[:_MOST_PARTS]:
        count = part["entries"]
        held = "1 entry" if count == 1 else f"{count} entries"
        if part["tensors"]:
            types = join_some(part["types"], 3)
            size = _size(part["bytes"])
            held = f"{part['tensors']} tensors of {size}, {types}"
        yield f"  {part['name']:<{width}}  {held}"
    if len(parts) > _MOST_PARTS:
        yield f"  and {len(parts) - _MOST_PARTS} more"


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    value, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f} {units[0]}"
