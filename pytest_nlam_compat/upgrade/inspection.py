"""Describe a checkpoint file without loading its tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.known import owner
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.planning import in_order
from pytest_nlam_compat.migrations.releases import parameter_names
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.plain import flat, plain
from pytest_nlam_compat.upgrade.request import NEWEST, OPTIONS

_LONGEST_NAME = 1000


def report(checkpoint: Checkpoint) -> dict[str, Any]:
    """Describe an open checkpoint; none of its tensors is read.

    Returns
    -------
    dict
        Plain data, for JSON: ``file``, ``bytes``, ``origin``, ``record``,
        ``training``, ``model``, ``graph``, ``hyper_parameters``,
        ``parameters``, ``buffers``, ``tensors``, ``optimizers``,
        ``lr_schedulers``, ``callbacks``, ``classes``, ``migrations``,
        ``needs`` and ``to``.
    """
    data = _table(checkpoint.data)
    hyper_parameters = _table(data.get("hyper_parameters"))
    arguments = flat(hyper_parameters.get("args", {}))
    weights = {
        str(name): ref
        for name, ref in _table(data.get("state_dict")).items()
        if isinstance(ref, TensorRef)
    }
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
            for name, ref in (weights or checkpoint.tensors()).items()
        ],
        "optimizers": [
            _optimizer(_table(state))
            for state in _list(data.get("optimizer_states"))
        ],
        "lr_schedulers": len(_list(data.get("lr_schedulers"))),
        "callbacks": [
            # Up to Lightning 1.4 the keys were the classes themselves.
            printable(str(getattr(key, "path", key)), _LONGEST_NAME)
            for key in _table(data.get("callbacks"))
        ],
        "classes": [
            {"name": named.path, "from": owner(named)}
            for named in checkpoint.globals
        ],
        **_migrations(origin["release"], weights, hyper_parameters),
    }


def _origin(data: Mapping[str, Any]) -> dict[str, Any]:
    release, evidence, problem = None, [], None
    if not isinstance(data.get("state_dict"), dict):
        problem = "It has no state_dict, so it is not a training checkpoint."
    else:
        try:
            origin = detect_origin(data)
            release, evidence = origin.release, [*map(str, origin.evidence)]
        except CompatError as error:
            evidence = [f"{k}: {v}" for k, v in error.facts.items()]
            problem = error.what
    return {
        "release": release,
        "evidence": [plain(found) for found in evidence],
        "problem": problem,
    }


def _optimizer(state: dict[Any, Any]) -> dict[str, Any]:
    entries = list(_table(state.get("state")).values())
    moments = [
        (printable(str(kind)), value)
        for entry in entries
        for kind, value in _table(entry).items()
    ]
    return {
        "groups": [
            {
                printable(str(name)): plain(value)
                for name, value in group.items()
                if name != "params"
            }
            for group in _list(state.get("param_groups"))
            if isinstance(group, dict)
        ],
        "parameters": len(entries),
        "state": list(dict.fromkeys(kind for kind, _ in moments)),
        "bytes": sum(
            value.nbytes for _, value in moments if isinstance(value, TensorRef)
        ),
    }


def _migrations(
    release: str | None,
    weights: Mapping[str, TensorRef],
    hyper_parameters: dict[str, Any],
) -> dict[str, Any]:
    """List the migrations to the newest release, and what they need."""
    if release is None:
        return {"to": NEWEST, "migrations": None, "needs": None}
    # Predicates read names and hyper-parameters, never a tensor.
    names: dict[str, Any] = dict(weights)
    run = SavedRun(state_dict=names, hyper_parameters=hyper_parameters)
    steps = [
        step
        for step in in_order(HISTORY)
        if step.applies(Version(release), Version(NEWEST), run)
    ]
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
        "needs": list(dict.fromkeys(n for step in steps for n in step.needs)),
    }


def _table(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def report_text(report: Mapping[str, Any]) -> str:
    """Write a `report` as text for a terminal."""
    return "\n".join(_lines(report))


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    origin = report["origin"]
    yield f"{report['file']}: {_size(report['bytes'])}"
    yield f"written by: neural-lam {origin['release'] or 'unknown'}"
    if origin["problem"]:
        yield f"  {origin['problem']}"
    for found in origin["evidence"]:
        yield f"  {found}"
    if _table(report["record"]).get("origin"):
        yield f"  before it was upgraded: {report['record']['origin']}"
    yield f"model: {report['model'] or 'unknown'}"
    yield f"graph: {report['graph'] or 'unknown'}"
    for name, value in report["training"].items():
        yield f"{name}: {value}"
    yield from _migration_lines(report)
    yield from _optimizer_lines(report)
    if report["callbacks"]:
        yield "callbacks:"
        for name in report["callbacks"]:
            yield f"  {name}"
    if report["classes"]:
        yield "classes named in its pickle:"
    for named in report["classes"]:
        mark = named["from"] or "UNKNOWN: may run anything when it is loaded"
        yield f"  {named['name']}  ({mark})"
    none = "" if report["hyper_parameters"] else " none"
    yield f"hyper-parameters:{none}"
    for name, value in report["hyper_parameters"].items():
        yield f"  {name}: {json.dumps(value, ensure_ascii=False)}"
    yield from _tensor_lines(report)


def _migration_lines(report: Mapping[str, Any]) -> Iterator[str]:
    steps, title = report["migrations"], f"migrations to {report['to']}:"
    if steps is None:
        yield f"{title} unknown, because the release that wrote it is unknown"
    elif not steps:
        yield f"{title} none"
    else:
        yield title
        for step in steps:
            yield f"  {step['id']}"
        for need in report["needs"]:
            yield f"  needs {need}: pass {OPTIONS[need]} to upgrade"


def _optimizer_lines(report: Mapping[str, Any]) -> Iterator[str]:
    for optimizer in report["optimizers"]:
        kept = ", ".join(optimizer["state"]) or "nothing"
        yield (
            f"optimizer: {kept} of {optimizer['parameters']} parameters, "
            f"{_size(optimizer['bytes'])}"
        )
        for group in optimizer["groups"]:
            shown = ", ".join(f"{name} {group[name]}" for name in group)
            yield f"  {shown}"
    yield f"learning rate schedulers: {report['lr_schedulers']}"


def _tensor_lines(report: Mapping[str, Any]) -> Iterator[str]:
    rows = report["tensors"]
    total = sum(row["bytes"] for row in rows)
    yield (
        f"tensors: {len(rows)}, {_size(total)}; {report['parameters']:,} "
        f"parameters, {report['buffers']} buffers"
    )
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        yield (
            f"  {row['name']:<{width}}  {row['dtype']} "
            f"{row['shape']}, {_size(row['bytes'])}"
        )
