"""A module that receives something else, though all before it agrees."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.diagnosis import (
    Diagnosis,
    Kind,
    defining,
    owner,
    source_of,
)
from pytest_nlam_compat.diagnosis.edge_changes import edge_file, explain_edges
from pytest_nlam_compat.diagnosis.tensor_changes import (
    explain_columns,
    input_labels,
    lower_precision,
    rounded_columns,
)
from pytest_nlam_compat.diagnosis.trace_diff import (
    CallPair,
    TraceDiff,
    agrees,
    row_difference,
)
from pytest_nlam_compat.references.reference import kind_of
from pytest_nlam_compat.under_test.tracing import fingerprint

# Over the size of the input: what float32 rounding changes at most, and less
# than any other change that was ever met.
_ROUNDING = 1e-5
# Columns that a line of a message names.
_SHOWN = 8


def explain_input(diff: TraceDiff, pair: CallPair) -> Diagnosis:
    """Explain a call whose inputs differ while all before it agrees."""
    outer = diff.enclosing(pair)
    if outer is not None:
        was = outer.recorded.kind
        cls = kind_of(type(diff.submodule(outer)).__name__)
        if cls != was:
            text = f"{was} was replaced by {cls}"
            return _diagnosis(diff, pair, "class", text)
    which = _first_input(diff, pair)
    if which is None:
        text = f"{_role(pair.module)} receives a different number of inputs"
        return _diagnosis(diff, pair, "inputs", text)
    return (
        _edges(diff, pair, outer)
        or _rounded(diff, pair, which)
        or _columns(diff, pair, which)
        or _sum(diff, pair, which)
    )


def _role(module: str) -> str:
    """Name a module without the numbers that only some references have."""
    return ".".join(s for s in module.split(".") if not s.isdigit())


def _first_input(diff: TraceDiff, pair: CallPair) -> int | None:
    """Return which input differs first, None where their number does."""
    rows = pair.recorded.inputs
    inputs = pair.inputs
    if len(inputs) != len(rows):
        return None
    for which, (tensor, row) in enumerate(zip(inputs, rows, strict=True)):
        if not _is_row(diff, tensor, row):
            return which
    return None


def _is_row(diff: TraceDiff, tensor: Tensor, row: int) -> bool:
    """Tell whether a tensor is the one that a row of the trace records."""
    return tuple(tensor.shape) == diff.then.shapes[row] and agrees(
        row_difference(fingerprint(tensor), diff.then.rows[row])
    )


def _diagnosis(
    diff: TraceDiff,
    pair: CallPair,
    kind: Kind,
    cause: str,
    details: dict[str, str] | None = None,
) -> Diagnosis:
    outer = diff.enclosing(pair)
    path = outer.module if outer else ""
    name, cls = owner(diff.predictor, path, diff.package)
    return Diagnosis(
        kind=kind,
        cause=cause,
        module=pair.module,
        cls=kind_of(type(diff.submodule(pair)).__name__),
        source=source_of(defining(cls)),
        here=pair.input_difference
        if pair.input_difference < float("inf")
        else None,
        details={"called by": f"{name} ({cls.__name__})", **(details or {})},
        layer=_first_linear(diff, pair),
    )


def _first_linear(diff: TraceDiff, pair: CallPair) -> str:
    """Return the full name of the first Linear that the input meets."""
    for name, module in diff.submodule(pair).named_modules():
        if isinstance(module, torch.nn.Linear):
            inner = f"{pair.module}.{name}" if name else pair.module
            return f"{diff.prefix}{inner}"
    return ""


def _edges(
    diff: TraceDiff, pair: CallPair, outer: CallPair | None
) -> Diagnosis | None:
    """Explain what a graph layer gathers by a change of its edges."""
    if outer is None or "edge_mlp" not in pair.module:
        return None
    layer = diff.submodule(outer)
    recorded = diff.then.rows[pair.recorded.inputs[0]]
    change = explain_edges(layer, outer.inputs, recorded)
    if change is None:
        return None
    file = edge_file(layer, diff.subject.migrated)
    text = f"{change.text} of {file}" if file else change.text
    found = _diagnosis(diff, pair, "edges", text)
    return replace(found, edges=change, file=file)


def _rounded(diff: TraceDiff, pair: CallPair, which: int) -> Diagnosis | None:
    """Explain an input that was rounded as a whole."""
    lost = lower_precision(pair.inputs[which])
    if not lost or pair.input_difference >= _ROUNDING:
        return None
    return _rounded_to(diff, pair, lost)


def _rounded_to(diff: TraceDiff, pair: CallPair, precision: str) -> Diagnosis:
    text = f"the input of {_role(pair.module)} is rounded to {precision}"
    return _diagnosis(diff, pair, "precision", text)


def _columns(diff: TraceDiff, pair: CallPair, which: int) -> Diagnosis | None:
    """Explain an input by columns that moved, or changed their units."""
    row = pair.recorded.inputs[which]
    then = diff.then.columns.get(row)
    if then is None:
        return None
    tensor = pair.inputs[which]
    change = explain_columns(then, diff.then.rows[row], tensor)
    if not change.confirmed and change.kind != "removed":
        lost = rounded_columns(then, tensor)
        return _rounded_to(diff, pair, lost) if lost else None
    stem = _graph_file(diff, tensor)
    labels = input_labels(diff.subject.reference, then.shape[1])
    details = {"its columns": str(change)}
    if labels and not stem:
        changed = [labels[column] for column in change.changed_columns()]
        more = ", ..." if len(changed) > _SHOWN else ""
        details["columns are"] = ", ".join(changed[:_SHOWN]) + more
    has = {
        "reordered": "has its columns in another order",
        "scaled": "has columns in other units",
        "shifted": "has columns in other units",
        "added": "has more columns",
        "removed": "has fewer columns",
    }[change.kind]
    what = f"the input of {_role(pair.module)}"
    cause = f"{what}, {stem}, {has}" if stem else f"{what} {has}"
    kind: Kind = "features" if stem else "inputs"
    return replace(
        _diagnosis(diff, pair, kind, cause, details),
        columns=change,
        file=stem,
    )


def _graph_file(diff: TraceDiff, tensor: Tensor) -> str:
    """Return the graph file that an input is read from, if it is one."""
    for name, buffer in diff.predictor.named_buffers():
        if buffer.shape == tensor.shape and torch.equal(buffer, tensor):
            stem = name.partition(".")[0]
            return "mesh_features" if stem == "mesh_static_features" else stem
    return ""


def _sum(diff: TraceDiff, pair: CallPair, which: int) -> Diagnosis:
    """Explain an input by the outputs that the release added up for it."""
    row = pair.recorded.inputs[which]
    tensor = pair.inputs[which]
    module = _role(pair.module)
    other = _received_by_another(diff, pair, tensor)
    if other is not None:
        text = f"{pair.module} receives the input of {other}"
        return replace(_diagnosis(diff, pair, "inputs", text), other=other)
    outputs = {
        earlier.module: earlier.outputs[0]
        for earlier in diff.pairs
        if earlier.called
        and earlier.then < pair.then
        and earlier.outputs
        and earlier.outputs[0].shape == tensor.shape
        and "." not in earlier.module
    }
    details = {}
    for name, output in outputs.items():
        if torch.equal(output, tensor):
            details["it receives"] = f"the output of {name}"
    missing = diff.missing(pair)
    if missing:
        details["no longer called"] = missing[-1].module
    for (one, a), (two, b) in combinations(outputs.items(), 2):
        if _is_row(diff, a + b, row):
            details["it received"] = (
                f"the sum of the outputs of {one} and {two}"
            )
            text = f"the residual connection before {module} has changed"
            return _diagnosis(diff, pair, "residual", text, details)
    for name, output in outputs.items():
        if _is_row(diff, output, row):
            details["it received"] = f"the output of {name}"
    text = f"{module} receives a different input"
    return _diagnosis(diff, pair, "inputs", text, details)


def _received_by_another(
    diff: TraceDiff, pair: CallPair, tensor: Tensor
) -> str | None:
    """Return a module beside this one that received this input before."""
    depth = pair.module.count(".")
    for other in diff.pairs:
        inputs = other.recorded.inputs
        if (
            other.module != pair.module
            and other.module.count(".") == depth
            and len(inputs) == 1
            and _is_row(diff, tensor, inputs[0])
        ):
            return other.module
    return None
