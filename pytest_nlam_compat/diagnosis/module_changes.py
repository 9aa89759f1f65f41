"""A module that gives something else for the same inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.alignment import Pair
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.precision import lost_precision
from pytest_nlam_compat.diagnosis.source_location import (
    defining,
    owner,
    source_of,
)
from pytest_nlam_compat.diagnosis.trace_diff import TraceDiff
from pytest_nlam_compat.diagnosis.weights import changed_by_loading
from pytest_nlam_compat.references.reference import kind_of

_ACTIVATIONS = frozenset(
    name
    for name in torch.nn.modules.activation.__all__
    if "Attention" not in name
)


def family(kind: str) -> str:
    """Return the kind of cause that a changed class of module is."""
    if kind in _ACTIVATIONS:
        return "activation"
    if "Norm" in kind:
        return "normalisation"
    if kind.endswith("Aggregation"):
        return "aggregation"
    return "layer"


def inside(walk: TraceDiff, pair: Pair) -> Finding:
    """Describe a module whose inputs agree and whose outputs don't.

    Parameters
    ----------
    walk : TraceDiff
    pair : Pair

    Returns
    -------
    Finding
    """
    module = walk.submodule(pair)
    kind, was = kind_of(type(module).__name__), walk.recorded(pair).kind
    lost = lost_precision(walk.outputs(pair), walk.inputs(pair), pair.outputs)
    if lost:
        # Whichever comes first: the model as a whole is in that precision.
        return _finding(
            walk, pair, "precision", f"{kind} computes in {lost}, not float64"
        )
    if kind != was:
        chosen = family(was) if family(was) == family(kind) else "class"
        return _finding(walk, pair, chosen, f"{was} has become {kind}")
    weights = changed_by_loading(walk, pair.module)
    if weights:
        return _finding(
            walk,
            pair,
            "weights",
            "loading changed weights",
            {"changed by loading": weights},
        )
    children = list(module.named_children())
    if not children:
        text = f"{kind} gives something else for the same input"
        return _finding(walk, pair, family(kind), text, {"now": repr(module)})
    lacking = _lacking(walk, pair)
    if lacking is not None:
        return lacking
    if hasattr(module, "edge_index"):
        return _residual(walk, pair, module)
    text = f"{kind} puts its submodules together otherwise"
    return _finding(walk, pair, "layer", text)


def _finding(
    walk: TraceDiff,
    pair: Pair,
    kind: str,
    text: str,
    details: dict[str, str] | None = None,
) -> Finding:
    package = walk.subject.adapter.current.path.name
    name, cls = owner(walk.predictor, pair.module, package)
    direct = type(walk.submodule(pair))
    more = {}
    if direct is not cls:
        more["part of"] = f"{name or 'the step predictor'} ({cls.__name__})"
    return Finding(
        kind=kind,
        cause=text,
        module=pair.module,
        cls=kind_of(direct.__name__),
        source=source_of(defining(cls)),
        here=pair.outputs,
        details=more | (details or {}),
    )


def _lacking(walk: TraceDiff, pair: Pair) -> Finding | None:
    """Find a submodule that is not called any more, or one that is new."""
    start = f"{pair.module}."
    gone = [p for p in walk.gone(pair) if p.module.startswith(start)]
    if gone:
        kind = walk.recorded(gone[0]).kind
        return _finding(
            walk,
            pair,
            family(kind),
            f"{kind} is not called any more",
            {"not called": gone[0].module},
        )
    added = [name for name in walk.alignment.added if name.startswith(start)]
    if added:
        kind = kind_of(type(walk.predictor.get_submodule(added[0])).__name__)
        return _finding(
            walk,
            pair,
            family(kind),
            f"{kind} is called in addition",
            {"new": added[0]},
        )
    return None


def _residual(walk: TraceDiff, pair: Pair, module: nn.Module) -> Finding:
    """Describe a graph layer whose submodules all agree."""
    cls = type(module).__name__
    details = {}
    inputs, outputs = walk.inputs(pair), walk.outputs(pair)
    update = _last_output(walk, pair, "aggr_mlp")
    if len(inputs) == 3 and update is not None and outputs:
        now = outputs[0]
        for text, tensor in (
            ("its update alone, without the receivers", update),
            ("receivers minus update", inputs[1] - update),
            ("receivers alone, without an update", inputs[1]),
            ("twice the receivers plus update", 2 * inputs[1] + update),
        ):
            if tensor.shape == now.shape and torch.equal(tensor, now):
                details["its nodes are now"] = text
    text = f"the residual connection in {cls} has changed"
    return _finding(walk, pair, "residual", text, details)


def _last_output(walk: TraceDiff, pair: Pair, child: str) -> Tensor | None:
    name = f"{pair.module}.{child}"
    for other in walk.alignment.pairs:
        earlier = other.now is not None and other.then < pair.then
        if other.module == name and earlier:
            found = walk.outputs(other)
            return found[0] if found else None
    return None
