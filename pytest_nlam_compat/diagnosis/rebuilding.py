"""The trace of one layer of an early release, made from what is stored.

Before 0.4.0 only outputs of layers were recorded. What went into a layer and
through it is known all the same, where its weights turn a tensor that is at
hand into the recorded output: in float64 nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.alignment import agrees, align
from pytest_nlam_compat.diagnosis.candidates import Candidate, candidates
from pytest_nlam_compat.diagnosis.observing import Observation
from pytest_nlam_compat.diagnosis.renames import (
    ModuleNames,
    parameters_below_predictor,
)
from pytest_nlam_compat.diagnosis.trace import fingerprint, record
from pytest_nlam_compat.diagnosis.trace_diff import TraceDiff
from pytest_nlam_compat.numerics.torch_settings import reproducible
from pytest_nlam_compat.references.reference import Call, Trace
from pytest_nlam_compat.references.release_trace import Recorded

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class Rebuilt:
    """A layer of a release beside that of the current code.

    Attributes
    ----------
    walk : TraceDiff
        Up to this layer; all before it is taken as it is now.
    proof : str
        How its inputs are known.
    """

    walk: TraceDiff
    proof: str


def rebuild(
    subject: ReferenceUnderTest,
    module: nn.Module,
    observation: Observation,
    names: ModuleNames,
    recorded: Recorded,
    kinds: Mapping[str, str],
) -> Rebuilt | None:
    """Make the trace of the first layer whose output differs.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        The whole model.
    observation : Observation
        Of the current code.
    names : ModuleNames
    recorded : Recorded
        The first output that differs.
    kinds : mapping of str to str
        Classes that the release recorded, by the current name.

    Returns
    -------
    Rebuilt or None
        None where nothing that is at hand gives the recorded output.
    """
    name = names.current(recorded.module)
    now = observation.trace
    at = next(i for i, call in enumerate(now.calls) if call.module == name)
    before = now.calls[:at]
    around = [
        replace(call, kind=kinds.get(call.module, call.kind), outputs=())
        for call in now.calls[at + 1 :]
        if name.startswith(f"{call.module}.")
    ]
    whole: dict[int, Tensor] = {}
    mlp = _mlp(subject, recorded.module)
    if mlp is None:
        # What is in it was compared on its own.
        own = replace(now.calls[at], kind=recorded.kind, outputs=())
        then = Trace([*before, own, *around], now.shapes, now.rows, now.columns)
        proof = "all that was recorded before it agrees"
    else:
        known = _input(subject, observation, at, mlp, recorded, around)
        if known is None:
            return None
        start = f"{name}."
        before = [c for c in before if not c.module.startswith(start)]
        made = _traced(mlp, known.tensor, recorded, names)
        then = _joined(now, before, made, around)
        _aggregated(then, known, around, now.calls)
        for call in then.calls:
            if call.module == name:
                whole[call.inputs[0]] = known.tensor
        proof = f"its weights make the recorded output of {known.what}"
    predictor = subject.adapter.step_predictor(module)
    same = align(then, now, ModuleNames({}))
    walk = TraceDiff(subject, module, predictor, observation, same, then, whole)
    return Rebuilt(walk, proof)


def _mlp(subject: ReferenceUnderTest, name: str) -> nn.Sequential | None:
    """Put the weights of an MLP together as all releases did."""
    start = f"{name}."
    weights = {
        old.removeprefix(start): subject.migrated.state_dict[new]
        for old, new in parameters_below_predictor(subject).items()
        if old.startswith(start)
    }
    if not weights or not all(
        re.fullmatch(r"\d+\.(weight|bias)", key) for key in weights
    ):
        return None
    layers: list[nn.Module] = []
    for place in range(1 + max(int(key.partition(".")[0]) for key in weights)):
        weight = weights.get(f"{place}.weight")
        if weight is None:
            layers.append(nn.SiLU())
        elif weight.dim() == 2:
            layers.append(nn.Linear(weight.shape[1], weight.shape[0]))
        else:
            layers.append(nn.LayerNorm(weight.shape[0]))
    mlp = nn.Sequential(*layers).double()
    mlp.load_state_dict(weights)
    return mlp.requires_grad_(requires_grad=False)


def _input(
    subject: ReferenceUnderTest,
    observation: Observation,
    at: int,
    mlp: nn.Sequential,
    recorded: Recorded,
    around: list[Call],
) -> Candidate | None:
    """Find what the release fed to an MLP, by what comes out of it."""
    first = mlp[0]
    assert isinstance(first, nn.Linear)
    for candidate in candidates(subject, observation, at, around):
        tensor = candidate.tensor.detach().to("cpu", torch.float64)
        if tensor.shape[-1] != first.in_features:
            continue
        with reproducible():
            made = mlp(tensor)
        if agrees(recorded.difference(made)):
            return replace(candidate, tensor=tensor)
    return None


def _traced(
    mlp: nn.Sequential, fed: Tensor, recorded: Recorded, names: ModuleNames
) -> Trace:
    """Trace an MLP, by the names that its modules have now."""
    with reproducible():
        trace = record(nn.ModuleDict({"mlp": mlp}), lambda: mlp(fed))
    trace.calls = [
        replace(
            call,
            module=names.current(
                recorded.module + call.module.removeprefix("mlp")
            ),
        )
        for call in trace.calls
    ]
    return trace


def _aggregated(
    then: Trace, known: Candidate, around: list[Call], now: list[Call]
) -> None:
    """Say of the aggregation of messages what it was."""
    # A layer of another class may send other messages, too.
    if known.aggregated is None or not any(
        (call.module, call.kind) == (around[0].module, around[0].kind)
        for call in now
    ):
        return
    start = f"{around[0].module}."
    row = len(then.rows)
    then.rows = torch.cat((then.rows, fingerprint(known.aggregated)[None]))
    then.shapes.append(tuple(known.aggregated.shape))
    then.calls[:] = [
        replace(call, kind=known.aggregation, outputs=(row,))
        if call.module.startswith(start) and call.kind.endswith("Aggregation")
        else call
        for call in then.calls
    ]


def _joined(
    now: Trace, before: list[Call], made: Trace, around: list[Call]
) -> Trace:
    """Put a layer that was rebuilt in the place of that of now."""
    count = len(now.rows)
    own = [
        replace(
            call,
            inputs=tuple(count + row for row in call.inputs),
            outputs=tuple(count + row for row in call.outputs),
        )
        for call in made.calls
    ]
    columns = {count + row: value for row, value in made.columns.items()}
    return Trace(
        calls=[*before, *own, *around],
        shapes=[*now.shapes, *made.shapes],
        rows=torch.cat((now.rows, made.rows)),
        columns=now.columns | columns,
    )
