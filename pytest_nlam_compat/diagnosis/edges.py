"""What became of the edges of a graph layer, by what it gathers with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.alignment import agrees, row_difference
from pytest_nlam_compat.diagnosis.trace import fingerprint
from pytest_nlam_compat.migrations import SavedRun

# 18 nodes is the most that releases have ever been off by.
_FURTHEST = 32


@dataclass(frozen=True)
class EdgeChange:
    """How the edges of a layer now differ from those of the release.

    Attributes
    ----------
    what : str
        In words.
    row : int or None
        0 if the senders are shifted, 1 if the receivers.
    shift : int
        By how much; 0 where both rows changed places.
    """

    what: str
    row: int | None
    shift: int


def explain_edges(
    layer: nn.Module, inputs: list[Tensor], recorded: Tensor
) -> EdgeChange | None:
    """Find the change of an edge index that explains what a layer gathered.

    Parameters
    ----------
    layer : torch.nn.Module
        A graph layer with an ``edge_index`` (2, M): senders count on from
        the receivers.
    inputs : list of Tensor
        Senders (..., S, d), receivers (..., R, d), edges (..., M, d).
    recorded : Tensor
        Row of the trace for what the release gathered: edges, senders,
        receivers, (..., M, 3 d).

    Returns
    -------
    EdgeChange or None
        None where no shift and no exchange explains it.
    """
    for change, tensor in gathered(layer, inputs):
        if agrees(row_difference(fingerprint(tensor), recorded)):
            return change
    return None


def gathered(
    layer: nn.Module, inputs: list[Tensor]
) -> Iterator[tuple[EdgeChange, Tensor]]:
    """Yield what a graph layer may have gathered before its edges changed.

    Parameters
    ----------
    layer : torch.nn.Module
    inputs : list of Tensor
        As `explain_edges` takes them.

    Yields
    ------
    EdgeChange
    Tensor
        (..., M, 3 d)
    """
    index = getattr(layer, "edge_index", None)
    if not isinstance(index, Tensor) or len(inputs) != 3:
        return
    senders, receivers, edges = inputs
    count = receivers.shape[-2]
    for change, source, target in _hypotheses(index.cpu(), count):
        source = source - count
        if int(source.min()) < 0 or int(source.max()) >= senders.shape[-2]:
            continue
        if int(target.min()) < 0 or int(target.max()) >= count:
            continue
        parts = (edges, senders[..., source, :], receivers[..., target, :])
        yield change, torch.cat(parts, dim=-1)


def _hypotheses(
    index: Tensor, count: int
) -> Iterator[tuple[EdgeChange, Tensor, Tensor]]:
    """Yield what the edges may have been, the smallest change first."""
    senders, receivers = index[0], index[1]
    for distance in range(1, _FURTHEST + 1):
        for back in (distance, -distance):
            yield (
                EdgeChange(f"senders shifted by {back}", 0, back),
                senders - back,
                receivers,
            )
            yield (
                EdgeChange(f"receivers shifted by {back}", 1, back),
                senders,
                receivers - back,
            )
    yield (
        EdgeChange("senders and receivers exchanged", None, 0),
        receivers + count,
        senders - count,
    )


def file_of(layer: nn.Module, run: SavedRun) -> tuple[str, int | None] | None:
    """Find the graph file that a layer has its edges from.

    Parameters
    ----------
    layer : torch.nn.Module
        With ``edge_index`` (2, M).
    run : SavedRun

    Returns
    -------
    (str, int or None) or None
        Stem, and the level where the file is a list by level.
    """
    index = getattr(layer, "edge_index", None)
    if not isinstance(index, Tensor):
        return None
    for form in (_relative, _sorted):
        found = _find(run, form(index.cpu()), form)
        if found is not None:
            return found
    return None


def _find(
    run: SavedRun, wanted: Tensor, form: Callable[[Tensor], Tensor]
) -> tuple[str, int | None] | None:
    for stem, content in run.graph.items():
        if not stem.endswith("edge_index"):
            continue
        levels = content if isinstance(content, list) else [content]
        for level, tensor in enumerate(levels):
            if tensor.shape == wanted.shape and torch.equal(
                form(tensor), wanted
            ):
                return stem, level if isinstance(content, list) else None
    return None


def _relative(index: Tensor) -> Tensor:
    """Count each row from its first edge: shifts don't show."""
    return index - index[:, :1]


def _sorted(index: Tensor) -> Tensor:
    """Forget which row is which, too."""
    relative = _relative(index)
    rows = sorted(relative.tolist())
    return torch.tensor(rows)
