"""The values of a tensor that may still be in its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pytest_nlam_compat.checkpoints.stand_ins import TensorRef

if TYPE_CHECKING:
    from torch import Tensor, dtype

Lazy: TypeAlias = "Tensor | TensorRef"


def is_loaded(tensor: Lazy) -> bool:
    """Tell whether a tensor is in memory."""
    return not isinstance(tensor, TensorRef)


def values(tensor: Lazy) -> Tensor:
    """Return a tensor in memory, loading it from its file if necessary.

    Returns
    -------
    Tensor
        A tensor in memory as it is. One that is loaded is float64 if it is
        floating point, so that it is rounded once after all steps
        (`SavedRun.cast_back`).

    Raises
    ------
    CompatError
        The file is damaged or closed.
    """
    if not isinstance(tensor, TensorRef):
        return tensor
    loaded = tensor.load().detach()
    return loaded.double() if loaded.is_floating_point() else loaded


def loaded(tensor: Lazy) -> Tensor:
    """Return a tensor in memory, in the type that it has in its file."""
    return tensor.load() if isinstance(tensor, TensorRef) else tensor


def dtype_named(name: str) -> dtype:
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


def dtype_name(tensor: Lazy) -> str:
    """Return the element type by name, such as ``"float32"``."""
    return str(tensor.dtype).removeprefix("torch.")
