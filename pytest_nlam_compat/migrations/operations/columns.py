"""Operations on the input columns of Linear layers.

A Linear has a weight (out, in): column i meets input feature i. Moving a
column moves it alike in both moments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.operations.tensors import (
    OnTensors,
    full_matches,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor


def width_of(operation: Operation, name: str, tensor: Tensor) -> int:
    """Count the input columns of a weight; refuse what is not a matrix."""
    if len(tensor.shape) != 2:
        raise operation.refuse(
            f"{name!r} is not a matrix, so it has no input columns.",
            "Name the weight of a Linear.",
            shape=tuple(tensor.shape),
        )
    return tensor.shape[1]


def first_column(
    operation: Operation, name: str, width: int, start: int, length: int
) -> int:
    """Find the first column of a block that fits; negative from the end."""
    first = start + width if start < 0 else start
    if first < 0 or first + length > width:
        raise operation.refuse(
            f"{name!r} has {width} columns.",
            "Correct the columns, or the predicate of the migration.",
            columns=f"{length} from {start}",
        )
    return first


def with_zeros(tensor: Tensor, columns: Collection[int]) -> Tensor:
    """Insert columns of zeros, numbered as they are afterwards."""
    width = tensor.shape[1] + len(columns)
    kept = [i for i in range(width) if i not in columns]
    wider = tensor.new_zeros((tensor.shape[0], width))
    wider[:, kept] = tensor
    return wider


@dataclass(repr=False, eq=False)
class PermuteInputColumns(OnTensors):
    """Put the input columns of weights into another order.

    Attributes
    ----------
    order : tuple of int
        New column i is the old column ``order[i]``.
    start : int, optional
        First column of the block that `order` counts from; negative counts
        from the end. Columns outside of the block stay. By default `order` is
        for all columns, and a weight of another width is refused.
    """

    order: tuple[int, ...]
    start: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(
                f"Not an order of {len(self.order)} columns: {self.order}"
            )

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Reorder the columns."""
        width, length = width_of(self, name, tensor), len(self.order)
        if self.start is None and width != length:
            raise self.refuse(
                f"{name!r} has {width} columns, and the order {length}.",
                "Order all columns, or set start to the first of a block.",
            )
        first = first_column(self, name, width, self.start or 0, length)
        columns = list(range(width))
        columns[first : first + length] = [first + old for old in self.order]
        return tensor[:, columns]


@dataclass(repr=False, eq=False)
class RepeatInputColumn(OnTensors):
    """Make room for an input that now comes several times, always equal.

    The sum over its columns is what counts, so the old column stays in one of
    them and the others start at zero. The gradient by each is the gradient by
    the old one, so the moments are repeated, exactly.

    Attributes
    ----------
    column : int
        Negative counts from the end.
    times : int
        How often the input comes from now on.
    keep : int
        Which of the new columns takes the old one.
    """

    column: int
    times: int
    keep: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.keep < self.times:
            raise ValueError(
                f"keep must be one of {self.times} columns: {self.keep}"
            )

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Repeat the column; a weight with zeros, a moment as it is."""
        width = width_of(self, name, tensor)
        column = first_column(self, name, width, self.column, 1)
        left, right = list(range(column)), list(range(column + 1, width))
        repeated = tensor[:, [*left, *[column] * self.times, *right]]
        if power == 0:
            for index in range(self.times):
                if index != self.keep:
                    repeated[:, column + index] = 0
        return repeated


@dataclass(repr=False, eq=False)
class AddInputColumns(OnTensors):
    """Make room for new inputs, with weights of zero.

    `columns` are where they are afterwards, ascending. Their moments are zero:
    they never had a gradient.
    """

    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.columns) != sorted(set(self.columns)) or (
            self.columns and self.columns[0] < 0
        ):
            raise ValueError(f"The columns must ascend: {self.columns}")

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Put zeros there."""
        width = width_of(self, name, tensor) + len(self.columns)
        if self.columns and self.columns[-1] >= width:
            raise self.refuse(
                f"{name!r} would have {width} columns.",
                "Correct the columns.",
            )
        return with_zeros(tensor, self.columns)


@dataclass(repr=False, eq=False)
class ByWidth(Operation):
    """Operations for each number of input columns that a weight can have.

    The number depends on the variables of a dataset, or on the hidden
    dimension. A run with a number that is not listed is refused. `names` are
    weights (out, in), all of one width.
    """

    names: str
    operations: Mapping[int, tuple[Operation, ...]]

    def apply(self, run: SavedRun) -> SavedRun:
        """Apply those of the run's own width."""
        found = full_matches(self.names, run)
        if not found:
            raise self.unmatched(run, self.names)
        widths = {width_of(self, n, run.state_dict[n]) for n in found}
        if not widths <= {*self.operations} or len(widths) > 1:
            raise self.refuse(
                f"No operations are listed for the width of {self.names!r} in "
                "this run.",
                "Find out what each of its columns is, and add operations for "
                "their number.",
                expected=f"{', '.join(map(str, self.operations))} columns",
                found=f"{', '.join(map(str, sorted(widths)))} columns",
            )
        [width] = widths
        for operation in self.operations[width]:
            run = operation.apply(run)
        return run
