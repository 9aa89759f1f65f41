"""Room for an input that a Linear did not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.columns import width_of
from pytest_nlam_compat.migrations.operations.segments import match
from pytest_nlam_compat.migrations.operations.tensors import OnTensors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class AddInputColumns(OnTensors):
    """Make room for new inputs, which count for nothing at first.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    columns : tuple of int
        Where the new columns are afterwards, ascending. Their weights are
        zero, and so are their moments: they never had a gradient.

    Raises
    ------
    CompatError
        Nothing matches, a weight is no matrix or has too few columns.
    """

    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        match(self.names, "")
        if list(self.columns) != sorted(set(self.columns)) or (
            self.columns and self.columns[0] < 0
        ):
            raise ValueError(f"Not ascending columns: {self.columns}")

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Put zeros there."""
        width = width_of(self, name, tensor) + len(self.columns)
        if self.columns and self.columns[-1] >= width:
            raise self.refuse(
                f"{name!r} would have {width} columns.",
                "Correct the columns.",
            )
        kept = [i for i in range(width) if i not in set(self.columns)]
        wider = tensor.new_zeros((tensor.shape[0], width))
        wider[:, kept] = tensor
        return wider
