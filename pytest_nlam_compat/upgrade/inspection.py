"""Describe a checkpoint file as plain data, without loading its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.known import KNOWN
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.walk import CONTAINERS, children, join
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.planning import Registry, in_order
from pytest_nlam_compat.migrations.releases import parameter_names, unwrapped
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.consolidated import as_checkpoint
from pytest_nlam_compat.upgrade.request import NEWEST
from pytest_nlam_compat.upgrade.weight_sets import find_sets

_LONGEST_NAME = 1000
_LONGEST_TEXT = 200
_MOST_ITEMS = 200


def report(
    checkpoint: Checkpoint,
    own: tuple[Migration, ...] = (),
    source: str | None = None,
) -> dict[str, Any]:
    """Describe an open checkpoint as plain data, without reading tensors.

    `own` are the migrations of a repository, and `source` is where it has
    them.
    """
    data = _table(as_checkpoint(checkpoint.data)[0])
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
        **run_report(data),
        "training": {
            name: plain(data[name])
            for name in ("epoch", "global_step", "pytorch-lightning_version")
            if name in data
        },
        "parameters": sum(
            prod(ref.shape)
            for name, ref in weights.items()
            if name in parameters
        ),
        "buffers": len(weights) - len(parameters),
        "tensors": [
            {
                "name": printable(name, _LONGEST_NAME),
                "shape": list(ref.shape),
                "dtype": ref.dtype,
                "bytes": ref.nbytes,
            }
            for name, ref in (weights or tensors(checkpoint.data)).items()
        ],
        "optimizers": [
            _optimizer(_table(state))
            for state in _list(data.get("optimizer_states"))
        ],
        "lr_schedulers": len(_list(data.get("lr_schedulers"))),
        "weight_sets": list(find_sets(data, map(unwrapped, weights)))
        if weights
        else [],
        "callbacks": [
            # Up to Lightning 1.4 the keys were the classes themselves.
            printable(str(getattr(key, "path", key)), _LONGEST_NAME)
            for key in _table(data.get("callbacks"))
        ],
        "classes": [
            {"name": named.path, "from": KNOWN.get(named, (None,))[0]}
            for named in checkpoint.globals
        ],
        "parts": [
            _part(name, value)
            for name, value in data.items()
            if isinstance(value, (dict, list))
        ],
        **_migrations(data, origin["release"], weights, own, source),
    }


def tensors(root: Any) -> dict[str, TensorRef]:
    """Return every tensor by its path: ``state_dict.grid_embedder.0.weight``.

    No container is searched twice.
    """
    found: dict[str, TensorRef] = {}
    seen: set[int] = set()

    def search(node: Any, at: str) -> None:
        if isinstance(node, TensorRef):
            found[at] = node
        elif isinstance(node, CONTAINERS) and id(node) not in seen:
            seen.add(id(node))
            for step, child in children(node):
                search(child, join(at, step))

    search(root, "")
    return found


def run_report(data: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the run that a checkpoint's tree is of; a part of `report`."""
    hyper_parameters = _table(data.get("hyper_parameters"))
    arguments = flat(hyper_parameters.get("args", {}))
    return {
        "record": plain(data.get(STAMP)),
        "model": arguments.get("model"),
        "graph": arguments.get("graph"),
        "hyper_parameters": flat(hyper_parameters),
    }


def _part(name: Any, value: Any) -> dict[str, Any]:
    """Describe an entry of the file: how much it holds, and where it was."""
    refs = tensors(value).values()
    return {
        "name": _key(name),
        "entries": len(_table(value) or _list(value)),
        "tensors": len(refs),
        "bytes": sum(ref.nbytes for ref in refs),
        "types": list(dict.fromkeys(ref.dtype for ref in refs)),
        "devices": list(dict.fromkeys(ref.storage.device for ref in refs)),
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
    return {"release": release, "evidence": plain(evidence), "problem": problem}


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
    data: Mapping[str, Any],
    release: str | None,
    weights: Mapping[str, TensorRef],
    own: tuple[Migration, ...],
    source: str | None,
) -> dict[str, Any]:
    """List the migrations to the newest release, and what they need.

    Those of a repository come last, and their source is named if there are.
    """
    found: dict[str, Any] = {"to": NEWEST, "source": None}
    if release is None:
        return {**found, "migrations": None, "needs": None}
    # Predicates read names and hyper-parameters, never a tensor.
    names: dict[str, Any] = dict(weights)
    hyper_parameters = _table(data.get("hyper_parameters"))
    run = SavedRun(state_dict=names, hyper_parameters=hyper_parameters)
    done = _list(_table(data.get(STAMP)).get("migrations"))
    registry = Registry(Version(NEWEST), own)
    steps = [
        step
        for step in (*in_order(HISTORY), *own)
        if step.applies(Version(release), registry.layout, run)
        and step.id not in done
    ]
    return {
        **found,
        "source": source if any(step in own for step in steps) else None,
        "migrations": [{"id": s.id, "reason": s.reason} for s in steps],
        "needs": list(dict.fromkeys(n for step in steps for n in step.needs)),
    }


def _table(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def plain(value: Any) -> Any:
    """Convert any part of a checkpoint's tree to what JSON has.

    Classes become their names, objects their attributes, tensors their shape
    and type; what is very long is cut.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        # JSON has neither infinity nor not-a-number.
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, str):
        return printable(value, _LONGEST_TEXT)
    if isinstance(value, dict):
        items = list(value.items())[:_MOST_ITEMS]
        return {_key(key): plain(item) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in list(value)[:_MOST_ITEMS]]
    if isinstance(value, InertObject):
        return _object(value)
    if isinstance(value, GlobalRef):
        return printable(value.path, _LONGEST_TEXT)
    if isinstance(value, TensorRef):
        return f"tensor {list(value.shape)} {value.dtype}"
    if isinstance(value, StorageRef):
        return f"storage of {value.nbytes} bytes"
    return printable(repr(value), _LONGEST_TEXT)


def flat(tree: Any) -> dict[str, Any]:
    """Return the plain values in dicts and objects by their dotted paths."""
    found: dict[str, Any] = {}

    def visit(node: Any, path: str) -> None:
        children = node.attributes if isinstance(node, InertObject) else node
        if isinstance(children, dict) and children:
            for key, value in children.items():
                visit(value, f"{path}.{_key(key)}" if path else _key(key))
        elif path:
            found[path] = plain(node)

    visit(tree, "")
    return found


def _object(value: InertObject) -> Any:
    if value.attributes:
        return plain(value.attributes)
    arguments = [plain(argument) for argument in value.args]
    if len(arguments) == 1:
        # A class around one value, such as a str subclass or a path.
        return arguments[0]
    name = getattr(value.cls, "path", "object")
    return f"{printable(name)}({', '.join(map(str, arguments))})"


def _key(key: Any) -> str:
    return printable(key if isinstance(key, str) else str(plain(key)))
