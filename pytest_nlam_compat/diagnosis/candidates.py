"""What an MLP of an early release may have been fed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.columns import other_blocks
from pytest_nlam_compat.diagnosis.edges import gathered
from pytest_nlam_compat.diagnosis.observing import Observation
from pytest_nlam_compat.references.reference import Call

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class Candidate:
    """An input, to be proved.

    Attributes
    ----------
    tensor : Tensor
    what : str
        Where it is from.
    aggregation : str
        Class that makes `aggregated` of the messages; empty where there is
        none in it.
    aggregated : Tensor or None
    """

    tensor: Tensor
    what: str
    aggregation: str = ""
    aggregated: Tensor | None = None


def candidates(
    subject: ReferenceUnderTest,
    observation: Observation,
    at: int,
    around: list[Call],
) -> Iterator[Candidate]:
    """Yield what an MLP may have been fed, the likeliest first.

    Parameters
    ----------
    subject : ReferenceUnderTest
    observation : Observation
        Of the current code.
    at : int
        The call of the MLP.
    around : list of Call
        Calls of the modules around it, the innermost first.

    Yields
    ------
    Candidate
    """
    inputs = observation.tensors[at].inputs
    for tensor in inputs:
        yield Candidate(tensor, "what it is fed now")
    for tensor in _stored(subject):
        yield Candidate(tensor, "the stored batch or graph")
    for tensor in inputs:
        for order in other_blocks(tensor.shape[-1]):
            yield Candidate(
                tensor[..., list(order)], "what it is fed now, reordered"
            )
    if around:
        yield from _of_a_graph_layer(subject, observation, around[0])


def _stored(subject: ReferenceUnderTest) -> Iterator[Tensor]:
    """Yield what embedders are fed: the batch, and features of the graph."""
    reference = subject.reference
    init, _, forcing, _ = reference.batch()
    static, mean, std = (
        torch.from_numpy(reference.dataset.arrays[name]).double()
        for name in ("static", "static_mean", "static_std")
    )
    static = ((static - mean) / std).expand(len(init), *static.shape)
    yield torch.cat((init[:, 1], init[:, 0], forcing[:, 0], static), dim=-1)
    for value in subject.migrated.graph.values():
        for tensor in value if isinstance(value, list | tuple) else [value]:
            if tensor.is_floating_point():
                yield tensor


def _of_a_graph_layer(
    subject: ReferenceUnderTest, observation: Observation, call: Call
) -> Iterator[Candidate]:
    """Yield what the MLPs of a graph layer are fed, by its inputs."""
    calls = observation.trace.calls
    predictor = subject.adapter.step_predictor(
        subject.migrated_model(torch.float64)
    )
    layer = predictor.get_submodule(call.module)
    inputs = observation.tensors[calls.index(_now(calls, call.module))].inputs
    for _, tensor in gathered(layer, inputs):
        yield Candidate(tensor, "what other edges gather")
    index = getattr(layer, "edge_index", None)
    messages = [
        tensors.outputs[0]
        for one, tensors in zip(calls, observation.tensors, strict=True)
        if one.module == f"{call.module}.edge_mlp" and tensors.outputs
    ]
    if not isinstance(index, Tensor) or len(inputs) != 3 or not messages:
        return
    receivers, target, message = inputs[1], index[1], messages[0]
    if message.shape[-2] != len(target):
        return
    total = torch.zeros_like(receivers).index_add(-2, target, message)
    ones = torch.ones_like(target, dtype=total.dtype)
    count = torch.zeros_like(total[..., 0, :, 0]).index_add(-1, target, ones)
    mean = total / count.clamp(min=1)[..., None]
    for aggregation, made in (
        ("SumAggregation", total),
        ("MeanAggregation", mean),
    ):
        yield Candidate(
            torch.cat((receivers, made), dim=-1),
            "nodes and messages, aggregated anew",
            aggregation,
            made,
        )


def _now(calls: list[Call], module: str) -> Call:
    return next(call for call in calls if call.module == module)
