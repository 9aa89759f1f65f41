"""A module that gives different outputs for the same inputs."""

from __future__ import annotations

import torch

from pytest_nlam_compat.diagnosis.diagnosis import (
    Diagnosis,
    Kind,
    defining,
    owner,
    source_of,
)
from pytest_nlam_compat.diagnosis.model_state import weights_changed_by_loading
from pytest_nlam_compat.diagnosis.tensor_changes import lost_precision
from pytest_nlam_compat.diagnosis.trace_diff import CallPair, TraceDiff
from pytest_nlam_compat.references.reference import kind_of

_ACTIVATIONS = frozenset(
    name
    for name in torch.nn.modules.activation.__all__
    if "Attention" not in name
)


def explain_module(diff: TraceDiff, pair: CallPair) -> Diagnosis:
    """Explain a call whose inputs agree and whose outputs don't."""
    module = diff.submodule(pair)
    cls, was = kind_of(type(module).__name__), pair.recorded.kind
    lost = lost_precision(pair.outputs, pair.inputs, pair.output_difference)
    if lost:
        # Whatever its class: the first call of a model in that precision.
        text = f"{cls} computes in {lost}, not in float64"
        return _diagnosis(diff, pair, "precision", text)
    if cls != was:
        kind = _kind(was) if _kind(was) == _kind(cls) else "class"
        text = f"{was} was replaced by {cls}"
        return _diagnosis(diff, pair, kind, text)
    weights = weights_changed_by_loading(
        diff.subject, diff.model, f"{diff.prefix}{pair.module}."
    )
    if weights:
        return _diagnosis(
            diff, pair, "weights", "loading changes weights", weights
        )
    if not list(module.named_children()):
        text = f"{cls} gives different outputs for the same input"
        details = {"now": repr(module)}
        return _diagnosis(diff, pair, _kind(cls), text, details)
    other_calls = _other_calls(diff, pair)
    if other_calls is not None:
        return other_calls
    if hasattr(module, "edge_index"):
        return _residual(diff, pair, type(module).__name__)
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


def _diagnosis(
    diff: TraceDiff,
    pair: CallPair,
    kind: Kind,
    cause: str,
    details: dict[str, str] | None = None,
) -> Diagnosis:
    name, cls = owner(diff.predictor, pair.module, diff.package)
    direct = type(diff.submodule(pair))
    part = {} if direct is cls else {"part of": f"{name} ({cls.__name__})"}
    return Diagnosis(
        kind=kind,
        cause=cause,
        module=pair.module,
        cls=kind_of(direct.__name__),
        source=source_of(defining(cls)),
        here=pair.output_difference,
        details=part | (details or {}),
    )


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
        cls = kind_of(type(diff.predictor.get_submodule(added[0])).__name__)
        text = f"a new {cls} is called"
        return _diagnosis(diff, pair, _kind(cls), text, {"new": added[0]})
    return None


def _residual(diff: TraceDiff, pair: CallPair, cls: str) -> Diagnosis:
    """Explain a graph layer whose submodules all agree."""
    details = {}
    updates = [
        earlier.outputs[0]
        for earlier in diff.pairs
        if earlier.module == f"{pair.module}.aggr_mlp"
        and earlier.then < pair.then
        and earlier.outputs
    ]
    if len(pair.inputs) == 3 and pair.outputs and updates:
        receivers, update, now = pair.inputs[1], updates[-1], pair.outputs[0]
        for text, tensor in (
            ("the update alone, without the receivers", update),
            ("receivers minus update", receivers - update),
            ("the receivers alone, without an update", receivers),
            ("twice the receivers plus update", 2 * receivers + update),
        ):
            if tensor.shape == now.shape and torch.equal(tensor, now):
                details["its nodes are now"] = text
    text = f"the residual connection in {cls} has changed"
    return _diagnosis(diff, pair, "residual", text, details)
