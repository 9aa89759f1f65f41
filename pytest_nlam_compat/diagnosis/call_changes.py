"""Why the first call that differs does so: its inputs, or its module."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.column_blocks import described
from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis, Kind
from pytest_nlam_compat.diagnosis.edge_changes import explain_edges
from pytest_nlam_compat.diagnosis.model_state import find_changed_weights
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
    owner,
)
from pytest_nlam_compat.under_test.source_lines import source_of

# Over the size of the input: what float32 rounding changes at most, and less
# than any other change that was ever met.
_ROUNDING = 1e-5
# Columns that a line of a message names.
_SHOWN = 8
_ACTIVATIONS = frozenset(
    name
    for name in torch.nn.modules.activation.__all__
    if "Attention" not in name
)


def explain_call(diff: TraceDiff, pair: CallPair) -> Diagnosis:
    """Explain a call that differs while all before it agrees."""
    if agrees(pair.input_difference):
        return _explain_module(diff, pair)
    return _explain_input(diff, pair)


def _diagnosis(
    diff: TraceDiff,
    pair: CallPair,
    kind: Kind,
    cause: str,
    details: dict[str, str] | None = None,
    line: str = "",
) -> Diagnosis:
    """Point to the module, or to what calls it where its inputs differ.

    `line` is that of the change, by default the one that calls the module or
    what it runs.
    """
    if agrees(pair.input_difference):
        label, path, here = "part of", pair.module, pair.output_difference
        line = line or _code_of(diff, pair.module)
    else:
        outer = diff.enclosing(pair)
        label, path = "called by", outer.module if outer else ""
        here, line = pair.input_difference, line or pair.line
    name, cls = owner(diff.subject, diff.model, path)
    direct = type(diff.submodule(pair)) is cls
    holder = {} if direct else {label: f"{name} ({cls.__name__})"}
    return Diagnosis(
        kind=kind,
        cause=cause,
        module=pair.module,
        cls=diff.class_name(pair.module),
        line=line,
        source=source_of(cls),
        here=here if here < float("inf") else None,
        details=holder | (details or {}),
        layer=_first_linear(diff, pair),
    )


def _code_of(diff: TraceDiff, module: str) -> str:
    """Return the method of the package under test that a module runs.

    The line that constructs it, where its class is not of the package.
    """
    cls = type(diff.predictor.get_submodule(module))
    if cls.__module__.partition(".")[0] == diff.package:
        return source_of(cls)
    return _built_line(diff, module)


def _built_line(diff: TraceDiff, module: str) -> str:
    return diff.subject.build_lines.of_module(f"{diff.prefix}{module}")


def _named_line(diff: TraceDiff, buffer: str) -> str:
    """Return the line that registers a buffer of the step predictor."""
    return diff.subject.build_lines.of_name(f"{diff.prefix}{buffer}")


def _explain_module(diff: TraceDiff, pair: CallPair) -> Diagnosis:
    """Explain a call whose inputs agree and whose outputs don't."""
    module = diff.submodule(pair)
    cls, was = diff.class_name(pair.module), pair.recorded.kind
    if cls != was:
        # An Identity in its place keeps the numbers of the other layers.
        alike = cls == "Identity" or _kind(was) == _kind(cls)
        kind = _kind(was) if alike else "class"
        text = f"{was} was replaced by {cls}"
        line = _built_line(diff, pair.module)
        return _diagnosis(diff, pair, kind, text, line=line)
    weights = find_changed_weights(
        diff.subject, diff.model, f"{diff.prefix}{pair.module}."
    )
    if weights is not None:
        return _diagnosis(
            diff,
            pair,
            weights.kind,
            weights.cause,
            weights.details,
            source_of(type(diff.model), "on_load_checkpoint"),
        )
    if not list(module.named_children()):
        text = f"{cls} gives different outputs for the same input"
        details = {"now": repr(module)}
        return _diagnosis(diff, pair, _kind(cls), text, details)
    other_calls = _other_calls(diff, pair)
    if other_calls is not None:
        return other_calls
    if hasattr(module, "edge_index"):
        text = f"the residual connection in {type(module).__name__} has changed"
        return _diagnosis(diff, pair, "residual", text)
    text = f"{cls} combines its submodules differently"
    return _diagnosis(diff, pair, "layer", text)


def _kind(cls: str) -> Kind:
    """Return the kind of cause that a changed class of module is."""
    if cls in _ACTIVATIONS:
        return "activation"
    if "Norm" in cls:
        return "normalisation"
    if cls.endswith("Aggregation"):
        return "aggregation"
    return "layer"


def _other_calls(diff: TraceDiff, pair: CallPair) -> Diagnosis | None:
    """Find a submodule that is no longer called, or a new one."""
    start = f"{pair.module}."
    missing = [p for p in diff.missing(pair) if p.module.startswith(start)]
    if missing:
        cls = missing[0].recorded.kind
        text = f"{cls} is no longer called"
        details = {"not called": missing[0].module}
        return _diagnosis(diff, pair, _kind(cls), text, details)
    added = [name for name in diff.added if name.startswith(start)]
    if added:
        cls = diff.class_name(added[0])
        text = f"a new {cls} is called"
        line = _built_line(diff, added[0])
        details = {"new": added[0]}
        return _diagnosis(diff, pair, _kind(cls), text, details, line)
    return None


def _explain_input(diff: TraceDiff, pair: CallPair) -> Diagnosis:
    """Explain a call whose inputs differ while all before it agrees."""
    outer = diff.enclosing(pair)
    if outer is not None:
        was, cls = outer.recorded.kind, diff.class_name(outer.module)
        if cls != was:
            text = f"{was} was replaced by {cls}"
            line = _built_line(diff, outer.module)
            return _diagnosis(diff, pair, "class", text, line=line)
    rows = pair.recorded.inputs
    if len(pair.inputs) != len(rows):
        text = f"{_role(pair.module)} receives a different number of inputs"
        return _diagnosis(diff, pair, "inputs", text)
    found = _left_out(diff, pair) or _exchanged(diff, pair)
    if found is not None:
        return found
    tensor, row = next(
        (tensor, row)
        for tensor, row in zip(pair.inputs, rows, strict=True)
        if not diff.is_row(tensor, row)
    )
    return (
        _edges(diff, pair, outer)
        or _rounded(diff, pair, tensor)
        or _columns(diff, pair, tensor, row)
        or _other_input(diff, pair, tensor, row)
    )


def _left_out(diff: TraceDiff, pair: CallPair) -> Diagnosis | None:
    """Find a module that returned this input, and is no longer called."""
    for gone in diff.missing(pair):
        if gone.recorded.outputs == pair.recorded.inputs:
            cls = gone.recorded.kind
            text = f"{cls} is no longer called"
            details = {"not called": gone.module}
            return _diagnosis(diff, pair, _kind(cls), text, details)
    return None


def _exchanged(diff: TraceDiff, pair: CallPair) -> Diagnosis | None:
    """Find a module that now receives what this one did, both still called."""
    for other in diff.pairs:
        if (
            other.recorded.kind != pair.recorded.kind
            # It may have received the same all along.
            or agrees(other.input_difference)
            or len(other.inputs) != len(pair.recorded.inputs)
            or not all(map(diff.is_row, other.inputs, pair.recorded.inputs))
            or diff.called_anew(other.module)
            or diff.called_anew(pair.module)
        ):
            continue
        one, two = _outermost(diff, pair.module, other.module)
        if one == two:
            continue
        text = f"{one} and {two} have exchanged their names or places"
        found = _diagnosis(diff, pair, "inputs", text)
        cls = diff.class_name(one)
        return replace(found, module=one, cls=cls, other=two)
    return None


def _outermost(diff: TraceDiff, one: str, two: str) -> tuple[str, str]:
    """Go from layers to the lists that hold them in one place."""
    called = {pair.module for pair in diff.pairs}
    while True:
        outer, _, name = one.rpartition(".")
        other, _, its_name = two.rpartition(".")
        if name != its_name or outer == other or {outer, other} & called:
            return one, two
        if not outer or not other:
            return one, two
        one, two = outer, other


def _role(module: str) -> str:
    """Name a module without the numbers that only some references have."""
    return ".".join(s for s in module.split(".") if not s.isdigit())


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
    run = diff.subject.migrated
    change = explain_edges(layer, outer.inputs, recorded, run)
    if change is None:
        return None
    text = f"{change.text} of {change.file}" if change.file else change.text
    line = _named_line(diff, change.file) if change.file else ""
    found = _diagnosis(diff, pair, "edges", text, line=line)
    return replace(found, edges=change)


def _rounded(
    diff: TraceDiff, pair: CallPair, tensor: Tensor
) -> Diagnosis | None:
    """Explain an input that was rounded as a whole."""
    lost = lower_precision(tensor)
    if not lost or pair.input_difference >= _ROUNDING:
        return None
    return _rounded_to(diff, pair, lost)


def _rounded_to(diff: TraceDiff, pair: CallPair, precision: str) -> Diagnosis:
    text = f"the input of {_role(pair.module)} is rounded to {precision}"
    return _diagnosis(diff, pair, "precision", text)


def _columns(
    diff: TraceDiff, pair: CallPair, tensor: Tensor, row: int
) -> Diagnosis | None:
    """Explain an input by columns that moved, or changed their units."""
    then = diff.then.columns.get(row)
    if then is None:
        return None
    change = explain_columns(then, diff.then.rows[row], tensor)
    if not change.confirmed and change.kind != "removed":
        lost = rounded_columns(then, tensor)
        return _rounded_to(diff, pair, lost) if lost else None
    buffer = _buffer(diff, tensor)
    stem = "mesh_features" if buffer == "mesh_static_features" else buffer
    labels = input_labels(diff.subject.reference, then.shape[1])
    layer, run = _first_linear(diff, pair), diff.subject.migrated
    told = described(change, layer, run, [] if stem else labels)
    details = {"its columns": told}
    if labels and not stem and told == str(change):
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
    line = _named_line(diff, buffer) if buffer else ""
    found = _diagnosis(diff, pair, kind, cause, details, line)
    return replace(found, columns=change)


def _buffer(diff: TraceDiff, tensor: Tensor) -> str:
    """Return the buffer, or list of buffers, that an input is, if any."""
    for name, buffer in diff.predictor.named_buffers():
        if torch.equal(buffer, tensor):
            return name.partition(".")[0]
    return ""


def _other_input(
    diff: TraceDiff, pair: CallPair, tensor: Tensor, row: int
) -> Diagnosis:
    """Explain an input by what other modules received or returned."""
    other = _received_by_another(diff, pair, tensor)
    if other is not None:
        text = f"{pair.module} receives the input of {other}"
        return replace(_diagnosis(diff, pair, "inputs", text), other=other)
    module = _role(pair.module)
    outputs = {
        earlier.module: earlier.outputs[0]
        for earlier in diff.pairs[: pair.then]
        if earlier.outputs
        and earlier.outputs[0].shape == tensor.shape
        and "." not in earlier.module
    }
    details = {}
    missing = diff.missing(pair)
    if missing:
        details["no longer called"] = missing[-1].module
    for (one, a), (two, b) in combinations(outputs.items(), 2):
        if diff.is_row(a + b, row):
            details["it received"] = (
                f"the sum of the outputs of {one} and {two}"
            )
            text = f"the residual connection before {module} has changed"
            return _diagnosis(diff, pair, "residual", text, details)
    for name, output in outputs.items():
        if diff.is_row(output, row):
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
            and diff.is_row(tensor, inputs[0])
        ):
            return other.module
    return None
