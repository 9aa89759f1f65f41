"""Operations on how the edge files of a graph number its nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import NotOnWeights
from pytest_nlam_compat.migrations.saved_run import GraphTensor, SavedRun
from pytest_nlam_compat.migrations.values import values

if TYPE_CHECKING:
    from torch import Tensor

LEGACY = "legacy"


@dataclass(frozen=True, repr=False)
class NumberFromMinimum(NotOnWeights):
    """Number the nodes of g2m and m2g as ``InteractionNet`` did up to 0.5.

    That class subtracted from each row of its edge index the smallest id in
    the row (0.5.0, interaction_net.py:56), so that the first node *with an
    edge* became node 0 of its side. 0.6 counts nodes instead
    (utils.py: ``zero_index_g2m``). This writes ids into the files which the
    newer loaders turn into the numbers of the old ones:

    - senders of g2m shift where grid node 0 has no g2m edge, which is the
      common case on square domains;
    - senders of m2g would shift where mesh node 0 has no m2g edge. Graphs of
      neural-lam's own ``create_graph`` always give it one, from the grid's
      corner; other writers of graphs need not;
    - receivers never shift in a run that could be run: the old class took the
      largest id left for the number of receivers, and concatenated that many
      rows with as many as there are nodes;
    - files that number grid nodes first, or each side from 0, mean the same
      to the old class and not to the new loaders. They come out mesh first.

    m2m, up and down edges need nothing: 0.6 and 0.7 still subtract the
    minimum there for a legacy directory, and in a graph of the newer format
    the creating code has numbered them from 0.

    Raises
    ------
    CompatError
        The run comes without its graph.
    """

    def apply(self, run: SavedRun) -> SavedRun:
        """Renumber ``g2m_edge_index`` and ``m2g_edge_index``, (2, M) each."""
        g2m = local_ids(tensor_of(self, run, "g2m_edge_index"))
        m2g = local_ids(tensor_of(self, run, "m2g_edge_index"))
        if run.graph_format == LEGACY:
            # In a legacy directory the mesh nodes of all levels come first.
            first = mesh_nodes(self, run)
            g2m[0] += first
            m2g[1] += first
        return with_graph(run, g2m_edge_index=g2m, m2g_edge_index=m2g)


def local_ids(edge_index: Tensor) -> Tensor:
    """Subtract from each row its minimum; a new tensor (2, M)."""
    local = edge_index.clone()
    for row in (0, 1):
        local[row] -= edge_index[row].min()
    return local


def mesh_nodes(operation: NotOnWeights, run: SavedRun) -> int:
    """Count the mesh nodes of all levels."""
    levels = list_of(operation, run, "mesh_features")
    return sum(level.shape[0] for level in levels)


def tensor_of(operation: NotOnWeights, run: SavedRun, stem: str) -> Tensor:
    """Get a graph file that holds one tensor.

    Raises
    ------
    CompatError
        No such file, or it holds a list.
    """
    found = content(operation, run, stem)
    if isinstance(found, list):
        raise operation.refuse(
            f"{stem}.pt holds a list of tensors, one tensor is expected.",
            "Use the graph directory that the run was trained with.",
        )
    return found


def list_of(operation: NotOnWeights, run: SavedRun, stem: str) -> list[Tensor]:
    """Get a graph file that holds one tensor per level.

    Raises
    ------
    CompatError
        No such file, or it holds a single tensor.
    """
    found = content(operation, run, stem)
    if not isinstance(found, list):
        raise operation.refuse(
            f"{stem}.pt holds one tensor, a list by level is expected.",
            "Use the graph directory that the run was trained with.",
        )
    return found


def content(operation: NotOnWeights, run: SavedRun, stem: str) -> GraphTensor:
    """Get the values of a graph file, one tensor or a list.

    Raises
    ------
    CompatError
        No such file.
    """
    if stem not in run.graph:
        raise operation.refuse(
            f"The saved run comes without {stem}.pt of its graph.",
            "Give the graph directory that the run was trained with.",
            found=", ".join(run.graph) or "no graph files",
        )
    found = run.graph[stem]
    if isinstance(found, list):
        return [values(tensor) for tensor in found]
    return values(found)


def with_graph(run: SavedRun, **contents: GraphTensor) -> SavedRun:
    """Give a new run with some graph files replaced."""
    return replace(run, graph={**run.graph, **contents})
