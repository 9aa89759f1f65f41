"""A module that is fed something else, though all before it agrees."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.alignment import (
    Pair,
    agrees,
    row_difference,
)
from pytest_nlam_compat.diagnosis.column_change import ColumnChange
from pytest_nlam_compat.diagnosis.columns import (
    explain_columns,
    rounded_columns,
)
from pytest_nlam_compat.diagnosis.edges import (
    EdgeChange,
    explain_edges,
    file_of,
)
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.labels import column_labels
from pytest_nlam_compat.diagnosis.precision import narrow
from pytest_nlam_compat.diagnosis.source_location import (
    defining,
    owner,
    source_of,
)
from pytest_nlam_compat.diagnosis.trace import fingerprint
from pytest_nlam_compat.diagnosis.trace_diff import TraceDiff
from pytest_nlam_compat.references.reference import kind_of


def fed(walk: TraceDiff, pair: Pair) -> Finding:
    """Describe a module whose inputs differ while all before it agrees.

    Parameters
    ----------
    walk : TraceDiff
    pair : Pair

    Returns
    -------
    Finding
    """
    around = walk.around(pair)
    if around is not None:
        became = walk.recorded(around).kind
        kind = kind_of(type(walk.submodule(around)).__name__)
        if kind != became:
            text = f"{became} has become {kind}"
            return _finding(walk, pair, around, "class", text)
    which = _first_input(walk, pair)
    if which is None:
        text = f"{role(pair.module)} gets other inputs than it did"
        return _finding(walk, pair, around, "inputs", text)
    if around is not None and "edge_mlp" in pair.module:
        change = explain_edges(
            walk.submodule(around),
            walk.inputs(around),
            walk.then.rows[walk.recorded(pair).inputs[0]],
        )
        if change is not None:
            return _edges(walk, pair, around, change.what, change)
    return _by_columns(walk, pair, around, which) or _by_sums(
        walk, pair, around, which
    )


def role(module: str) -> str:
    """Name a module without the numbers that only some references have."""
    return ".".join(s for s in module.split(".") if not s.isdigit())


def _first_input(walk: TraceDiff, pair: Pair) -> int | None:
    """Return which input differs first, None where their number does."""
    wanted = walk.recorded(pair).inputs
    given = walk.inputs(pair)
    if len(given) != len(wanted):
        return None
    for which, (tensor, row) in enumerate(zip(given, wanted, strict=True)):
        same = tuple(tensor.shape) == walk.then.shapes[row]
        if not same or not agrees(
            row_difference(fingerprint(tensor), walk.then.rows[row])
        ):
            return which
    return None


def _finding(
    walk: TraceDiff,
    pair: Pair,
    around: Pair | None,
    kind: str,
    text: str,
    details: dict[str, str] | None = None,
    columns: ColumnChange | None = None,
) -> Finding:
    package = walk.subject.adapter.current.path.name
    name, cls = owner(walk.predictor, around.module if around else "", package)
    return Finding(
        kind=kind,
        cause=text,
        module=pair.module,
        cls=kind_of(type(walk.submodule(pair)).__name__),
        source=source_of(defining(cls)),
        here=pair.inputs if pair.inputs < float("inf") else None,
        details={
            "fed by": f"{name or 'the step predictor'} ({cls.__name__})",
            **(details or {}),
        },
        layer=_linear(walk, pair),
        columns=columns,
    )


def _linear(walk: TraceDiff, pair: Pair) -> str:
    """Return the full name of the first Linear that the input meets."""
    for name, module in walk.submodule(pair).named_modules():
        if isinstance(module, torch.nn.Linear):
            inner = f"{pair.module}.{name}" if name else pair.module
            return f"{walk.prefix}{inner}"
    return ""


def _edges(
    walk: TraceDiff, pair: Pair, around: Pair, text: str, change: EdgeChange
) -> Finding:
    layer = walk.submodule(around)
    file = file_of(layer, walk.subject.migrated)
    named = f" of {file[0]}" if file else ""
    finding = _finding(walk, pair, around, "edges", f"{text}{named}")
    return replace(finding, edges=change, file=file)


def _by_columns(
    walk: TraceDiff, pair: Pair, around: Pair | None, which: int
) -> Finding | None:
    """Explain an input by columns that moved, or changed their units."""
    row = walk.recorded(pair).inputs[which]
    then = walk.then.columns.get(row)
    tensor = walk.inputs(pair)[which]
    lost = narrow(tensor)
    if lost and pair.inputs < _ROUNDING:
        text = f"what is fed to {role(pair.module)} was rounded to {lost}"
        return _finding(walk, pair, around, "precision", text)
    if then is None:
        return None
    whole = walk.whole.get(row)
    change = explain_columns(then, walk.then.rows[row], tensor, whole)
    if not change.confirmed and change.kind != "removed":
        lost = rounded_columns(then, tensor)
        if lost:
            text = f"what is fed to {role(pair.module)} was rounded to {lost}"
            return _finding(walk, pair, around, "precision", text)
        return None
    stem = _graph_file(walk, tensor)
    labels = column_labels(walk.subject.reference, then.shape[1])
    details = {"its columns": str(change)}
    if labels and not stem:
        details["columns are"] = _named(change, labels)
    verb = {
        "reordered": "has its columns in another order",
        "scaled": "has columns in other units",
        "shifted": "has columns in other units",
        "added": "has more columns",
        "removed": "has fewer columns",
    }[change.kind]
    kind = "features" if stem else "inputs"
    subject = (
        f"{stem}, fed to {role(pair.module)},"
        if stem
        else f"the input of {role(pair.module)}"
    )
    finding = _finding(
        walk, pair, around, kind, f"{subject} {verb}", details, change
    )
    if stem:
        finding = replace(finding, file=(stem, None))
    return finding


# Of the input: float32 rounding, and no change of meaning that was ever met.
_ROUNDING = 1e-5


def _named(change: ColumnChange, labels: list[str]) -> str:
    """Name the recorded columns that are not where or what they were."""
    orders = (change.order, *change.others)
    changed = {
        old
        for order in orders
        for new, old in enumerate(order)
        if new != old
        or (change.scale and change.scale[new] != 1)
        or (change.shift and change.shift[new] != 0)
    }
    moved = [labels[old] for old in sorted(changed) if 0 <= old < len(labels)]
    shown = ", ".join(moved[:8])
    return shown + (", ..." if len(moved) > 8 else "")


def _graph_file(walk: TraceDiff, tensor: Tensor) -> str:
    """Return the buffer of features that is fed, if it is one."""
    for name, buffer in walk.predictor.named_buffers():
        if buffer.shape == tensor.shape and torch.equal(buffer, tensor):
            stem = name.partition(".")[0]
            return "mesh_features" if stem == "mesh_static_features" else stem
    return ""


def _fed_before(walk: TraceDiff, pair: Pair, tensor: Tensor) -> str | None:
    """Return another module that got this input in the release."""
    row = fingerprint(tensor)
    depth = pair.module.count(".")
    for other in walk.alignment.pairs:
        inputs = walk.recorded(other).inputs
        if (
            other.module != pair.module
            and other.module.count(".") == depth
            and len(inputs) == 1
            and walk.then.shapes[inputs[0]] == tuple(tensor.shape)
            and agrees(row_difference(row, walk.then.rows[inputs[0]]))
        ):
            return other.module
    return None


def _by_sums(
    walk: TraceDiff, pair: Pair, around: Pair | None, which: int
) -> Finding:
    """Explain an input by what the release added up for it."""
    recorded = walk.then.rows[walk.recorded(pair).inputs[which]]
    tensor = walk.inputs(pair)[which]
    earlier = {
        other.module: walk.outputs(other)[0]
        for other in walk.alignment.pairs
        if other.now is not None
        and other.then < pair.then
        and walk.outputs(other)
        and walk.outputs(other)[0].shape == tensor.shape
        and "." not in other.module
    }
    gone = walk.gone(pair)
    called = role(pair.module)
    details = {}
    other = _fed_before(walk, pair, tensor)
    if other is not None:
        text = f"{pair.module} is fed what {other} was fed"
        return replace(
            _finding(walk, pair, around, "inputs", text), other=other
        )
    for name, output in earlier.items():
        if torch.equal(output, tensor):
            details["it gets"] = f"what {name} puts out"
    if gone:
        details["not called any more"] = gone[-1].module
    for (one, a), (two, b) in combinations(earlier.items(), 2):
        if agrees(row_difference(fingerprint(a + b), recorded)):
            details["it got"] = f"the sum of what {one} and {two} put out"
            text = f"the residual connection before {called} has changed"
            return _finding(walk, pair, around, "residual", text, details)
    for name, output in earlier.items():
        if agrees(row_difference(fingerprint(output), recorded)):
            details["it got"] = f"what {name} puts out"
    text = f"{called} is fed something else"
    return _finding(walk, pair, around, "inputs", text, details)
