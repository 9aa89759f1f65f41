"""Operations on single tensors, carried over to the AdamW moments.

If a step replaces a weight W by W' = s W, the gradient by W' is that by W
over s, and so is its running mean ``exp_avg``; the running mean of its square,
``exp_avg_sq``, is over s squared. What only moves elements moves them alike in
all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
)
from pytest_nlam_compat.migrations.operations.segments import match
from pytest_nlam_compat.migrations.saved_run import Optimizer, SavedRun
from pytest_nlam_compat.migrations.values import dtype_named, values

if TYPE_CHECKING:
    from torch import Tensor

# By which power of a gradient a moment goes. max_exp_avg_sq is amsgrad's.
POWERS = {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}


@dataclass(frozen=True, repr=False)
class OnTensors(Operation):
    """An operation on every tensor that a pattern names in full.

    Attributes
    ----------
    names : str
        Pattern; ``mesh_embedders.*.0.weight`` names tensors,
        ``mesh_embedders`` none.
    """

    names: str

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Give what takes the place of a tensor.

        Parameters
        ----------
        name : str
        tensor : Tensor
            Left as it is.
        power : int
            0 for a weight, else how often the gradient enters a moment.

        Returns
        -------
        Tensor
        """
        raise NotImplementedError

    def apply(self, run: SavedRun) -> SavedRun:
        """Exchange the weights and their moments."""
        matched = self.matched(run)
        return with_images(run, matched, self.image)

    def matched(self, run: SavedRun) -> list[str]:
        """List the names that the pattern matches.

        Raises
        ------
        CompatError
            There is none.
        """
        found = full_matches(self.names, run)
        if not found:
            raise nothing_matched(self, run, self.names)
        return found


def full_matches(pattern: str, run: SavedRun) -> list[str]:
    """List the tensors that a pattern names, not those inside of modules."""
    found = [(name, match(pattern, name)) for name in run.state_dict]
    return [name for name, hit in found if hit is not None and not hit.rest]


def with_images(
    run: SavedRun,
    names: list[str],
    image: Callable[[str, Tensor, int], Tensor],
) -> SavedRun:
    """Give a new run with some weights and their moments exchanged.

    Parameters
    ----------
    run : SavedRun
    names : list of str
        Of the state_dict.
    image : callable
        As `OnTensors.image`.

    Returns
    -------
    SavedRun
    """
    chosen = set(names)
    return replace(
        run,
        state_dict={
            name: image(name, values(tensor), 0) if name in chosen else tensor
            for name, tensor in run.state_dict.items()
        },
        optimizers=[
            _moments_with_images(optimizer, chosen, image)
            for optimizer in run.optimizers
        ],
    )


def _moments_with_images(
    optimizer: Optimizer,
    chosen: set[str],
    image: Callable[[str, Tensor, int], Tensor],
) -> Optimizer:
    moments = {
        name: {
            kind: image(name, values(moment), POWERS[kind])
            if name in chosen and kind in POWERS
            else moment
            for kind, moment in kinds.items()
        }
        for name, kinds in optimizer.moments.items()
    }
    return replace(optimizer, moments=moments)


def times(tensor: Tensor, factor: Tensor | float) -> Tensor:
    """Multiply in float64 and cast once, back to the type of `tensor`."""
    return (tensor.double() * factor).to(tensor.dtype)


@dataclass(frozen=True, repr=False)
class Scale(OnTensors):
    """Multiply tensors by a number.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    factor : float
        Not 0, which could not be undone.
    columns : tuple of int, optional
        Input columns, the last dimension; all by default.

    Raises
    ------
    CompatError
        Nothing matches, or a tensor lacks a column.
    """

    factor: float
    columns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        match(self.names, "")
        if self.factor == 0 or not math.isfinite(self.factor):
            raise ValueError(f"A factor is finite and not 0: {self.factor}")

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Scale by the factor, or a moment by its inverse powers."""
        factor = self.factor if power == 0 else self.factor**-power
        if self.columns is None:
            return times(tensor, factor)
        width = tensor.shape[-1] if tensor.dim() else 0
        if any(not -width <= column < width for column in self.columns):
            raise self.refuse(
                f"{name!r} has {width} columns.",
                "Correct the columns.",
                columns=self.columns,
            )
        scaled = tensor.clone()
        chosen = list(self.columns)
        scaled[..., chosen] = times(tensor[..., chosen], factor)
        return scaled

    def inverse(self) -> Scale | None:
        """Scale back, where that is exact: by powers of two."""
        if math.frexp(abs(self.factor))[0] != 0.5:
            return None
        return Scale(self.names, 1 / self.factor, columns=self.columns)


@dataclass(frozen=True, repr=False)
class Transpose(OnTensors):
    """Swap two dimensions of tensors.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    dims : tuple of (int, int)
        The last two by default.

    Raises
    ------
    CompatError
        Nothing matches, or a tensor lacks a dimension.
    """

    dims: tuple[int, int] = (-2, -1)

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Swap the dimensions."""
        if any(not -tensor.dim() <= dim < tensor.dim() for dim in self.dims):
            raise self.refuse(
                f"{name!r} has {tensor.dim()} dimensions.",
                "Correct the dimensions.",
                shape=tuple(tensor.shape),
            )
        return tensor.transpose(*self.dims).contiguous()

    def inverse(self) -> Transpose:
        """Swap them again."""
        return self


@dataclass(frozen=True, repr=False)
class Reshape(OnTensors):
    """Read the elements of tensors, in order, into another shape.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    shape : tuple of int
        -1 stands for what is left.

    Raises
    ------
    CompatError
        Nothing matches, or the number of elements is another.
    """

    shape: tuple[int, ...]

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Read the elements into the shape."""
        known = math.prod(size for size in self.shape if size != -1)
        fits = (
            known > 0 and tensor.numel() % known == 0
            if -1 in self.shape
            else tensor.numel() == known
        )
        if not fits:
            raise self.refuse(
                f"{name!r} has {tensor.numel()} elements.",
                "Correct the shape.",
                found=tuple(tensor.shape),
            )
        return tensor.reshape(self.shape)


@dataclass(frozen=True, repr=False)
class Cast(OnTensors):
    """Cast tensors, and their moments, to another type.

    Attributes
    ----------
    names : str
        Pattern of whole tensors.
    dtype : str
        ``"float32"``, ``"bfloat16"``, ...

    Raises
    ------
    CompatError
        Nothing matches.
    """

    dtype: str

    def image(self, name: str, tensor: Tensor, power: int) -> Tensor:
        """Cast it."""
        return tensor.to(dtype_named(self.dtype))
