"""The few calls that differ between tensors of torch and our arrays.

Operations work on ``torch.Tensor`` and on `checkpoints.arrays.Array` alike,
whichever a saved run holds; torch is imported only where it holds the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.arrays import Array
from pytest_nlam_compat.checkpoints.arrays import concatenate as _concatenate

if TYPE_CHECKING:
    from torch import Tensor, dtype


def is_array(value: object) -> bool:
    """Tell whether a tensor is one of ours rather than of torch."""
    return isinstance(value, Array)


def joined(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Join tensors along a dimension."""
    some: Any = tensors[0]
    if is_array(some):
        arrays: Any = tensors
        ours: Any = _concatenate(arrays, dim)
        return ours  # type: ignore[no-any-return]
    import torch

    return torch.cat(list(tensors), dim=dim)


def numbers_like(tensor: Tensor, numbers: Iterable[float]) -> Tensor:
    """Make a vector of numbers, float64, of the same library."""
    if is_array(tensor):
        ours: Any = Array.from_numbers(list(numbers), "float64")
        return ours  # type: ignore[no-any-return]
    import torch

    return torch.tensor(list(numbers), dtype=torch.float64)


def filled(
    shape: tuple[int, ...], fill: float, dtype: str, others: Iterable[Tensor]
) -> Tensor:
    """Make a tensor of one value, of the library of the others."""
    if any(is_array(other) for other in others):
        import numpy as np

        ours: Any = Array.from_numbers(np.full(shape, fill), dtype)
        return ours  # type: ignore[no-any-return]
    import torch

    return torch.full(shape, fill, dtype=dtype_of(dtype))


def settled(tensor: Tensor, dtype: str) -> Tensor:
    """Cast to the type that is to be written."""
    ours: Any = tensor
    if is_array(tensor):
        return ours.settled(dtype)  # type: ignore[no-any-return]
    return tensor.to(dtype_of(dtype))


def dtype_of(name: str) -> dtype:
    """Find an element type of torch by its name.

    Raises
    ------
    ValueError
        torch has no such type.
    """
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"torch has no dtype {name!r}")
    return found
