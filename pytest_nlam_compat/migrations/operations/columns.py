"""Operations on the input columns of Linear layers.

A Linear has a weight (out, in): column i meets input feature i. Moving a
column moves it alike in both moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
)
from pytest_nlam_compat.migrations.operations.segments import match
from pytest_nlam_compat.migrations.operations.tensors import (
    OnTensors,
    full_matches,
    with_images,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor

Moves: TypeAlias = "Mapping[int, int] | tuple[tuple[int, int], ...]"


def width_of(operation: Operation, name: str, tensor: Tensor) -> int:
    """Count the input columns of a weight.

    Raises
    ------
    CompatError
        The tensor isn't a matrix.
    """
    if len(tensor.shape) != 2:
        raise operation.refuse(
            f"{name!r} has no input columns: it isn't a matrix.",
            "Name the weight of a Linear.",
            shape=tuple(tensor.shape),
        )
    return tensor.shape[1]


def block(
    operation: Operation, name: str, width: int, start: int, length: int
) -> int:
    """Find the first column of a block of columns.

    Parameters
    ----------
    operation : Operation
    name : str
        Of the weight.
    width : int
        Columns of the weight.
    start : int
        Counts from the end where it is negative.
    length : int

    Returns
    -------
    int
        Counted from the left.

    Raises
    ------
    CompatError
        The block sticks out.
    """
    first = start + width if start < 0 else start
    if first < 0 or first + length > width:
        raise operation.refuse(
            f"{name!r} has {width} columns.",
            "Correct the columns, or the predicate of the migration.",
            columns=f"{length} from {start}",
        )
    return first


@dataclass(frozen=True, repr=False)
class PermuteInputColumns(OnTensors):
    """Put the input columns of weights into another order.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    order : tuple of int
        New column i is the old column ``order[i]``.
    start : int, optional
        First column of the block that `order` counts from; negative counts
        from the end. Columns outside the block stay. By default `order` is
        for all columns, and a weight of another width an error.

    Raises
    ------
    CompatError
        Nothing matches, a weight is no matrix or of another width.
    """

    order: tuple[int, ...]
    start: int | None = None

    def __post_init__(self) -> None:
        match(self.names, "")
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(
                f"Not an order of {len(self.order)} columns: {self.order}"
            )

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Reorder the columns."""
        width = width_of(self, name, tensor)
        if self.start is None:
            if width != len(self.order):
                raise self.refuse(
                    f"{name!r} has {width} columns, and the order "
                    f"{len(self.order)}.",
                    "Order all columns, or say from where with start.",
                )
            first = 0
        else:
            first = block(self, name, width, self.start, len(self.order))
        columns = list(range(width))
        columns[first : first + len(self.order)] = [
            first + old for old in self.order
        ]
        return tensor[:, columns]

    def inverse(self) -> PermuteInputColumns:
        """Put them back."""
        back = [0] * len(self.order)
        for new, old in enumerate(self.order):
            back[old] = new
        return PermuteInputColumns(self.names, tuple(back), start=self.start)


@dataclass(frozen=True, repr=False)
class MoveInputColumns(Operation):
    """Take input columns out and insert them elsewhere, one after another.

    What the surgery script of neural-lam #48 does: each move takes the column
    out and inserts it so that it stands at the target index, and the next one
    finds the columns as that has left them.

    Attributes
    ----------
    moves : mapping of str to (mapping of int to int, or pairs)
        Per pattern of whole tensors the moves ``{old: new}``, in order. As
        pairs where a column index comes twice.

    Raises
    ------
    CompatError
        A pattern matches nothing, two match the same tensor, or a column
        isn't there.

    Examples
    --------
    >>> MoveInputColumns({"grid_prev_embedder.0.weight": {49: 34}})
    MoveInputColumns({'grid_prev_embedder.0.weight': {49: 34}})
    """

    moves: Mapping[str, Moves]

    def __post_init__(self) -> None:
        for pattern in self.moves:
            match(pattern, "")

    def apply(self, run: SavedRun) -> SavedRun:
        """Move the columns of weights and moments."""
        by_name: dict[str, str] = {}
        for pattern in self.moves:
            found = full_matches(pattern, run)
            if not found:
                raise nothing_matched(self, run, pattern)
            for name in found:
                if name in by_name:
                    raise self.refuse(
                        f"Two patterns match {name!r}.",
                        "Write its moves under one of them.",
                        patterns=f"{by_name[name]}, {pattern}",
                    )
                by_name[name] = pattern

        def image(name: str, tensor: Tensor, power: int) -> Tensor:
            width = width_of(self, name, tensor)
            order = self._order(name, width, self.moves[by_name[name]])
            return tensor[:, order]

        return with_images(run, list(by_name), image)

    def _order(self, name: str, width: int, moves: Moves) -> list[int]:
        order = list(range(width))
        for old, new in _pairs(moves):
            if not (0 <= old < width and 0 <= new < width):
                raise self.refuse(
                    f"{name!r} has {width} columns.",
                    "Correct the columns.",
                    move=f"{old} to {new}",
                )
            order.insert(new, order.pop(old))
        return order

    def inverse(self) -> MoveInputColumns:
        """Move back, the last move first."""
        return MoveInputColumns(
            {
                pattern: tuple((new, old) for old, new in reversed(pairs))
                for pattern, pairs in (
                    (pattern, list(_pairs(moves)))
                    for pattern, moves in self.moves.items()
                )
            }
        )


def _pairs(moves: Moves) -> Iterable[tuple[int, int]]:
    return moves.items() if isinstance(moves, Mapping) else moves


@dataclass(frozen=True, repr=False)
class RepeatInputColumn(OnTensors):
    """Make room for an input that now comes several times, always equal.

    The sum over its columns is what counts, so the old column stays in one of
    them and the others start at zero. The gradient by each is the gradient by
    the old one, so the moments are repeated, exactly.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    column : int
        The old column; negative counts from the end.
    times : int
        Number of columns in its place.
    keep : int
        Which of them keeps the weight.

    Raises
    ------
    CompatError
        Nothing matches, or a weight is no matrix or lacks the column.
    """

    column: int
    times: int
    keep: int = 0

    def __post_init__(self) -> None:
        match(self.names, "")
        if not 0 <= self.keep < self.times:
            raise ValueError(
                f"keep is one of {self.times} columns: {self.keep}"
            )

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Repeat the column; a weight with zeros, a moment as it is."""
        width = width_of(self, name, tensor)
        column = block(self, name, width, self.column, 1)
        left, right = list(range(column)), list(range(column + 1, width))
        repeated = tensor[:, [*left, *[column] * self.times, *right]]
        if power == 0:
            for index in range(self.times):
                if index != self.keep:
                    repeated[:, column + index] = 0
        return repeated
