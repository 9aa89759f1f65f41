"""How the edges of a graph layer have changed, by what it gathers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.trace_diff import agrees, row_difference
from pytest_nlam_compat.migrations import SavedRun
from pytest_nlam_compat.under_test.tracing import fingerprint

# 18 nodes is the most that releases have ever been off by.
_FURTHEST = 32


@dataclass(frozen=True)
class EdgeChange:
    """How the edges of a layer differ from those of the release.

    Attributes
    ----------
    text : str
    row : int or None
        0 if the senders are shifted, 1 if the receivers.
    shift : int
        By how much; 0 where senders and receivers are exchanged.
    file : str
        Stem of the graph file that the edges come from; empty if of none.
    """

    text: str
    row: int | None
    shift: int
    file: str = ""


def explain_edges(
    layer: nn.Module,
    inputs: Sequence[Tensor],
    recorded: Tensor,
    run: SavedRun,
) -> EdgeChange | None:
    """Find the change of an edge index that explains what a layer gathered.

    Parameters
    ----------
    layer : torch.nn.Module
        A graph layer with an ``edge_index`` (2, M), where senders are numbered
        after the receivers.
    inputs : sequence of Tensor
        Senders (..., S, d), receivers (..., R, d), edges (..., M, d).
    recorded : Tensor
        Row of the trace for what the release gathered: edges, senders,
        receivers, (..., M, 3 d).
    run : SavedRun
        With the graph files.
    """
    index = getattr(layer, "edge_index", None)
    if not isinstance(index, Tensor) or len(inputs) != 3:
        return None
    index = index.cpu()
    senders, receivers, edges = inputs
    count = receivers.shape[-2]
    for change, source, target in _hypotheses(index, count):
        source = source - count
        if int(source.min()) < 0 or int(source.max()) >= senders.shape[-2]:
            continue
        if int(target.min()) < 0 or int(target.max()) >= count:
            continue
        parts = (edges, senders[..., source, :], receivers[..., target, :])
        gathered = fingerprint(torch.cat(parts, dim=-1))
        if agrees(row_difference(gathered, recorded)):
            return replace(change, file=_edge_file(index, run))
    return None


def _hypotheses(
    index: Tensor, count: int
) -> Iterator[tuple[EdgeChange, Tensor, Tensor]]:
    """Yield what the edges may have been, the smallest change first."""
    senders, receivers = index
    for distance in range(1, _FURTHEST + 1):
        for shift in (distance, -distance):
            change = EdgeChange(f"senders shifted by {shift}", 0, shift)
            yield change, senders - shift, receivers
            change = EdgeChange(f"receivers shifted by {shift}", 1, shift)
            yield change, senders, receivers - shift
    change = EdgeChange("senders and receivers exchanged", None, 0)
    yield change, receivers + count, senders - count


def _edge_file(index: Tensor, run: SavedRun) -> str:
    """Return the stem of the graph file that an edge index comes from."""
    for form in (_relative, _without_direction):
        wanted = form(index)
        for stem, content in run.graph.items():
            levels = content if isinstance(content, list) else [content]
            if stem.endswith("edge_index") and any(
                torch.equal(form(tensor), wanted) for tensor in levels
            ):
                return stem
    return ""


def _relative(index: Tensor) -> Tensor:
    """Count each row from its first edge, so that shifts don't matter."""
    return index - index[:, :1]


def _without_direction(index: Tensor) -> Tensor:
    return torch.tensor(sorted(_relative(index).tolist()))
