"""Operations on the tensors of the graph directory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pytest_nlam_compat.migrations.operations.base import NotOnWeights
from pytest_nlam_compat.migrations.saved_run import (
    GraphTensor,
    SavedRun,
    values,
)

if TYPE_CHECKING:
    from torch import Tensor

LEGACY = "legacy"
ORDERS = ("x-major", "y-major")
_ORIGINAL = "Pass the graph directory that the run was trained with."


@dataclass(repr=False, eq=False)
class OnGraph(NotOnWeights):
    """An operation on the graph only."""

    needs: ClassVar[tuple[str, ...]] = ("graph",)

    def _first_grid_node(self, run: SavedRun) -> int:
        """Return its id: of a legacy directory, behind all mesh nodes."""
        if run.graph_format != LEGACY:
            return 0
        levels = self._content(run, "mesh_features")
        if not isinstance(levels, list):
            raise self.refuse(
                "mesh_features.pt holds one tensor instead of a list by level.",
                _ORIGINAL,
            )
        return sum(level.shape[0] for level in levels)

    def _edge_indices(self, run: SavedRun) -> list[Tensor]:
        """Return the edge indices of g2m and m2g, (2, M) each."""
        found = []
        for stem in ("g2m_edge_index", "m2g_edge_index"):
            content = self._content(run, stem)
            if isinstance(content, list):
                raise self.refuse(
                    f"{stem}.pt holds a list of tensors instead of one.",
                    _ORIGINAL,
                )
            found.append(values(content))
        return found

    def _content(self, run: SavedRun, stem: str) -> GraphTensor:
        if stem not in run.graph:
            raise self.refuse(
                f"The saved run comes without {stem}.pt of its graph.",
                _ORIGINAL,
                found=", ".join(run.graph) or "no graph files",
            )
        return run.graph[stem]


@dataclass(repr=False, eq=False)
class OnGraphFile(OnGraph):
    """An operation on each tensor of one graph file: ``"g2m_edge_index"``."""

    stem: str

    def image(self, tensor: Tensor) -> Tensor:
        """Return what takes the place of a tensor, which is not changed."""
        raise NotImplementedError

    def apply(self, run: SavedRun) -> SavedRun:
        """Replace the tensor, or those of all levels."""
        found = self._content(run, self.stem)
        new = (
            [self.image(values(tensor)) for tensor in found]
            if isinstance(found, list)
            else self.image(values(found))
        )
        return _with_graph(run, **{self.stem: new})


@dataclass(repr=False, eq=False)
class ShiftNodes(OnGraphFile):
    """Add a number to the ids of senders, row 0, or receivers, row 1."""

    row: int
    by: int

    def image(self, tensor: Tensor) -> Tensor:
        """Add the number."""
        shifted = tensor.clone()
        shifted[self.row] += self.by
        if shifted.numel() and int(shifted.min()) < 0:
            raise self.refuse(
                f"A node of {self.stem}.pt would have a negative id.",
                "Correct the shift.",
                lowest=int(tensor[self.row].min()),
            )
        return shifted


@dataclass(repr=False, eq=False)
class ReverseEdges(OnGraphFile):
    """Make senders receivers and receivers senders."""

    def image(self, tensor: Tensor) -> Tensor:
        """Swap the rows (2, M)."""
        return tensor.flip(0)


@dataclass(repr=False, eq=False)
class RelabelGrid(OnGraph):
    """Renumber the grid nodes of g2m and m2g for another order of the grid.

    An order is ``"y-major"``, node iy * NX + ix, up to v0.2, or ``"x-major"``,
    node ix * NY + iy, since.
    """

    needs: ClassVar[tuple[str, ...]] = ("graph", "grid_shape")

    old: str
    new: str

    def __post_init__(self) -> None:
        if sorted((self.old, self.new)) != list(ORDERS):
            raise ValueError(f"Not two of {ORDERS}: {self.old}, {self.new}")

    def apply(self, run: SavedRun) -> SavedRun:
        """Renumber the senders of g2m and the receivers of m2g."""
        if run.grid_shape is None:
            raise self.refuse(
                "The saved run comes without the shape of its grid.",
                "Pass the dataset that it was trained on.",
            )
        slow, fast = run.grid_shape
        if self.old == "y-major":
            slow, fast = fast, slow
        first = self._first_grid_node(run)

        def relabel(ids: Tensor) -> Tensor:
            local = ids - first
            if int(local.min()) < 0 or int(local.max()) >= slow * fast:
                raise self.refuse(
                    f"The graph has nodes off the grid of {slow * fast}.",
                    "Pass the dataset and the graph of the same run.",
                    ids=f"{int(local.min())} to {int(local.max())}",
                )
            return local % fast * slow + local // fast + first

        g2m, m2g = (edges.clone() for edges in self._edge_indices(run))
        g2m[0], m2g[1] = relabel(g2m[0]), relabel(m2g[1])
        return _with_graph(run, g2m_edge_index=g2m, m2g_edge_index=m2g)


@dataclass(repr=False, eq=False)
class NumberFromMinimum(OnGraph):
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
    """

    def apply(self, run: SavedRun) -> SavedRun:
        """Renumber ``g2m_edge_index`` and ``m2g_edge_index``, (2, M) each."""
        g2m, m2g = self._edge_indices(run)
        g2m = g2m - g2m.amin(dim=1, keepdim=True)
        m2g = m2g - m2g.amin(dim=1, keepdim=True)
        first = self._first_grid_node(run)
        g2m[0] += first
        m2g[1] += first
        return _with_graph(run, g2m_edge_index=g2m, m2g_edge_index=m2g)


def _with_graph(run: SavedRun, **contents: GraphTensor) -> SavedRun:
    return replace(run, graph={**run.graph, **contents})
