"""Operations on the tensors of the graph directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import NotOnWeights
from pytest_nlam_compat.migrations.operations.numbering import (
    LEGACY,
    content,
    mesh_nodes,
    tensor_of,
    with_graph,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor

ORDERS = ("x-major", "y-major")


@dataclass(frozen=True, repr=False)
class OnGraphFile(NotOnWeights):
    """An operation on each tensor of one graph file.

    Attributes
    ----------
    stem : str
        File without ``.pt``: ``"g2m_edge_index"``.
    """

    stem: str

    def image(self, tensor: Tensor) -> Tensor:
        """Give what takes the place of a tensor, left as it is."""
        raise NotImplementedError

    def apply(self, run: SavedRun) -> SavedRun:
        """Exchange the tensor, or those of all levels."""
        found = content(self, run, self.stem)
        new = (
            [self.image(tensor) for tensor in found]
            if isinstance(found, list)
            else self.image(found)
        )
        return with_graph(run, **{self.stem: new})


@dataclass(frozen=True, repr=False)
class ScaleGraphFeatures(OnGraphFile):
    """Multiply columns of a file of features by a number; -1 flips a sign.

    Attributes
    ----------
    stem : str
        ``"mesh_up_features"``.
    factor : float
    columns : tuple of int, optional
        All by default. Edge features are length and vector difference.

    Raises
    ------
    CompatError
        No such file, or it lacks a column.
    """

    factor: float
    columns: tuple[int, ...] | None = None

    def image(self, tensor: Tensor) -> Tensor:
        """Multiply."""
        if self.columns is None:
            return tensor * self.factor
        if any(not 0 <= c < tensor.shape[1] for c in self.columns):
            raise self.refuse(
                f"{self.stem}.pt has {tensor.shape[1]} columns.",
                "Correct the columns.",
            )
        scaled = tensor.clone()
        scaled[:, list(self.columns)] *= self.factor
        return scaled


@dataclass(frozen=True, repr=False)
class ShiftNodes(OnGraphFile):
    """Add a number to the node ids of one side of the edges.

    Attributes
    ----------
    stem : str
        ``"g2m_edge_index"``.
    row : int
        0 for senders, 1 for receivers.
    by : int

    Raises
    ------
    CompatError
        No such file, or an id would be negative.
    """

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

    def inverse(self) -> ShiftNodes:
        """Subtract it again."""
        return ShiftNodes(self.stem, self.row, -self.by)


@dataclass(frozen=True, repr=False)
class ReverseEdges(OnGraphFile):
    """Make senders receivers and receivers senders.

    Attributes
    ----------
    stem : str
        ``"mesh_up_edge_index"``.

    Raises
    ------
    CompatError
        No such file.
    """

    def image(self, tensor: Tensor) -> Tensor:
        """Swap the rows (2, M)."""
        return tensor.flip(0)

    def inverse(self) -> ReverseEdges:
        """Reverse them again."""
        return self


@dataclass(frozen=True, repr=False)
class RelabelGrid(NotOnWeights):
    """Renumber the grid nodes of g2m and m2g for another order of the grid.

    Attributes
    ----------
    old, new : str
        ``"y-major"``: node iy * NX + ix, up to v0.2; ``"x-major"``: node
        ix * NY + iy, since.

    Raises
    ------
    CompatError
        The run comes without graph or grid shape, or with ids that aren't on
        the grid.
    """

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
                "Give the dataset that it was trained on.",
            )
        slow, fast = run.grid_shape
        if self.old == "y-major":
            slow, fast = fast, slow
        # In a legacy directory the mesh nodes of all levels come first.
        first = mesh_nodes(self, run) if run.graph_format == LEGACY else 0

        def relabel(ids: Tensor) -> Tensor:
            local = ids - first
            if int(local.min()) < 0 or int(local.max()) >= slow * fast:
                raise self.refuse(
                    f"The graph has nodes off the grid of {slow * fast}.",
                    "Give the dataset and the graph of the same run.",
                    ids=f"{int(local.min())} to {int(local.max())}",
                )
            return local % fast * slow + local // fast + first

        return with_graph(
            run,
            g2m_edge_index=_on_row(
                tensor_of(self, run, "g2m_edge_index"), 0, relabel
            ),
            m2g_edge_index=_on_row(
                tensor_of(self, run, "m2g_edge_index"), 1, relabel
            ),
        )

    def inverse(self) -> RelabelGrid:
        """Renumber back."""
        return RelabelGrid(self.new, self.old)


def _on_row(
    edge_index: Tensor, row: int, function: Callable[[Tensor], Tensor]
) -> Tensor:
    changed = edge_index.clone()
    changed[row] = function(edge_index[row])
    return changed
