"""Operations on whole tensors, applied to the AdamW moments as well.

If a step replaces a weight W by W' = s W, the gradient by W' is that by W
over s, and so is its running mean ``exp_avg``; the running mean of its square,
``exp_avg_sq``, is over s squared. What only moves elements moves them alike in
all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import (
    POWERS,
    Operation,
    replace_tensors,
)
from pytest_nlam_compat.migrations.operations.segments import (
    check_pattern,
    covers,
    match,
)
from pytest_nlam_compat.migrations.saved_run import (
    WEIGHT,
    SavedRun,
    dtype_name,
    dtype_named,
    values,
)

if TYPE_CHECKING:
    from torch import Tensor

    Image = Callable[[str, Tensor, int], Tensor]


def full_matches(pattern: str, run: SavedRun) -> list[str]:
    """List the tensors that a pattern names in full."""
    found = [(name, match(pattern, name)) for name in run.state_dict]
    return [name for name, hit in found if hit is not None and not hit.rest]


def with_images(run: SavedRun, names: Iterable[str], image: Image) -> SavedRun:
    """Replace some weights and their moments; see `OnTensors.image`."""
    chosen = set(names)

    def moment_image(name: str, kind: str, moment: Tensor) -> Tensor:
        if name not in chosen or kind not in POWERS:
            return moment
        return image(name, values(moment), POWERS[kind])

    return replace(
        run,
        state_dict={
            name: image(name, values(tensor), 0) if name in chosen else tensor
            for name, tensor in run.state_dict.items()
        },
        optimizers=[each.map_moments(moment_image) for each in run.optimizers],
    )


def times(tensor: Tensor, factor: Tensor | float) -> Tensor:
    """Multiply in float64 and cast once, back to the type of `tensor`."""
    return (tensor.double() * factor).to(tensor.dtype)


@dataclass(repr=False, eq=False)
class OnTensors(Operation):
    """An operation on every tensor that a pattern names in full.

    ``mesh_embedders.*.0.weight`` names tensors, ``mesh_embedders`` none.
    """

    names: str

    def __post_init__(self) -> None:
        check_pattern(self.names)

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Return what takes the place of a tensor, which is not changed.

        `power` is 0 for a weight, else that of the gradient in a moment.
        """
        raise NotImplementedError

    def apply(self, run: SavedRun) -> SavedRun:
        """Replace the weights and their moments."""
        return with_images(run, self.matched(run), partial(self.image, run))

    def matched(self, run: SavedRun) -> list[str]:
        """List the names that the pattern matches; refuse if there is none."""
        found = full_matches(self.names, run)
        if not found:
            raise self.unmatched(run, self.names)
        return found


@dataclass(repr=False, eq=False)
class Scale(OnTensors):
    """Multiply tensors by a finite number other than 0.

    `columns` are input columns, the last dimension; all by default.
    """

    factor: float
    columns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor == 0 or not math.isfinite(self.factor):
            raise ValueError(
                f"The factor must be finite and not 0: {self.factor}"
            )

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
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


@dataclass(repr=False, eq=False)
class Transpose(OnTensors):
    """Swap the last two dimensions of tensors."""

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Swap the dimensions."""
        _raise_without_dimension(self, name, tensor, -2)
        return tensor.transpose(-2, -1).contiguous()


@dataclass(repr=False, eq=False)
class Add(Operation):
    """Add a tensor of one value.

    A parameter has no moments at first, like one that never had a gradient.

    Attributes
    ----------
    shape : tuple of int, or str
        ``(0,)`` for an empty tensor, ``()`` for a scalar; or the name of a
        tensor of the same shape, which need not be known.
    buffer : bool
        Whether it is a buffer, which has no position in the optimizer.
    before : str, optional
        Name of the tensor that it stands before, where the model registers
        it; at the end by default. For a parameter this is its position.
    """

    name: str
    shape: tuple[int, ...] | str
    fill: float = 0.0
    dtype: str = "float32"
    buffer: bool = False
    before: str | None = None

    def apply(self, run: SavedRun) -> SavedRun:
        """Add it to the state_dict, and a parameter to the positions."""
        import torch

        shape = self.shape
        if isinstance(shape, str):
            self.raise_if_missing(run, shape)
            shape = tuple(run.state_dict[shape].shape)
        new = torch.full(shape, self.fill, dtype=dtype_named(self.dtype))
        added = {self.name: new}
        return _with_added(self, run, added, self.before, self.buffer)


@dataclass(repr=False, eq=False)
class AddIdentity(Operation):
    """Add a Linear that returns its input, next to another, as wide as that.

    So a Linear becomes two whose product is the old one, exactly. The other
    keeps its moments, exactly, since the gradient by it stays the same; the
    new one has none at first, like one that never had a gradient.

    Attributes
    ----------
    layer, beside : str
        Names of the new Linear and of the other, without ``.weight``.
    after : bool
        Whether it comes after the other, or before it.
    """

    layer: str
    beside: str
    after: bool = False

    def apply(self, run: SavedRun) -> SavedRun:
        """Add it to the state_dict, and to the positions."""
        import torch

        name = f"{self.beside}.weight"
        self.raise_if_missing(run, name)
        weight = run.state_dict[name]
        _raise_without_dimension(self, name, weight, -2)
        width = weight.shape[0 if self.after else 1]
        # Of a file that is read lazily, the type that it is written in.
        stored = run.stored_types.get((name, WEIGHT), dtype_name(weight))
        eye = torch.eye(width, dtype=dtype_named(stored))
        added = {f"{self.layer}.weight": eye}
        names = list(run.state_dict)
        theirs = [i for i, n in enumerate(names) if covers(self.beside, n)]
        place = theirs[-1] + 1 if self.after else theirs[0]
        before = names[place] if place < len(names) else None
        return _with_added(self, run, added, before)


def _with_added(
    operation: Operation,
    run: SavedRun,
    added: Mapping[str, Tensor],
    before: str | None,
    buffer: bool = False,
) -> SavedRun:
    """Put tensors, parameters unless `buffer`, before another or at the end."""
    operation.raise_if_taken(run, list(added))
    if before is not None:
        operation.raise_if_missing(run, before)
    tensors = list(run.state_dict.items())
    place = [*run.state_dict, None].index(before)
    earlier = {name for name, _ in tensors[:place]}
    tensors[place:place] = added.items()

    def with_new(names: list[str]) -> list[str]:
        # Buffers have no position: the parameters that stand before count.
        position = sum(name in earlier for name in names)
        return [*names[:position], *added, *names[position:]]

    optimizers = run.optimizers
    if not buffer:
        optimizers = [replace(o, names=with_new(o.names)) for o in optimizers]
    return replace(run, state_dict=dict(tensors), optimizers=optimizers)


@dataclass(repr=False, eq=False)
class Split(Operation):
    """Cut a tensor, and its moments, into pieces that take its place.

    `into` has the name of each piece and its length along `dim`, in order; or
    the names alone, of pieces of one length.
    """

    name: str
    into: Mapping[str, int] | tuple[str, ...]
    dim: int = 0

    def apply(self, run: SavedRun) -> SavedRun:
        """Cut weight and moments; every piece has the step of the whole."""
        self.raise_if_missing(run, self.name)
        self.raise_if_taken(run, [n for n in self.into if n != self.name])
        whole = run.state_dict[self.name]
        _raise_without_dimension(self, self.name, whole, self.dim)
        length = whole.shape[self.dim]
        lengths = [length // len(self.into)] * len(self.into)
        if isinstance(self.into, Mapping):
            lengths = list(self.into.values())
        if sum(lengths) != length:
            raise self.refuse(
                f"The pieces don't add up to the {length} of {self.name!r}.",
                "Correct their lengths.",
                pieces=sum(lengths),
            )

        def cut(tensors: list[Tensor]) -> list[Tensor]:
            pieces = values(tensors[0]).split_with_sizes(lengths, self.dim)
            return [piece.clone() for piece in pieces]

        return replace_tensors(self, run, [self.name], list(self.into), cut)


@dataclass(repr=False, eq=False)
class Concatenate(Operation):
    """Join tensors along `dim`, and their moments, in place of the first."""

    names: tuple[str, ...]
    into: str
    dim: int = 0

    def apply(self, run: SavedRun) -> SavedRun:
        """Join weights and moments."""
        self.raise_if_missing(run, *self.names)
        if self.into not in self.names:
            self.raise_if_taken(run, [self.into])
        tensors = {name: run.state_dict[name] for name in self.names}
        others = {self._other_dimensions(n, t) for n, t in tensors.items()}
        if len(others) > 1:
            shapes = [str(tuple(t.shape)) for t in tensors.values()]
            raise self.refuse(
                "The shapes of the tensors don't fit together.",
                "Correct the names or the dimension.",
                shapes=", ".join(shapes),
            )
        return replace_tensors(self, run, self.names, [self.into], self._join)

    def _other_dimensions(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        _raise_without_dimension(self, name, tensor, self.dim)
        shape = list(tensor.shape)
        del shape[self.dim]
        return tuple(shape)

    def _join(self, tensors: list[Tensor]) -> list[Tensor]:
        import torch

        return [torch.cat([values(each) for each in tensors], dim=self.dim)]


@dataclass(repr=False, eq=False)
class Stack(Concatenate):
    """Join tensors of one shape along a new dimension, with their moments."""

    def _other_dimensions(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        return tuple(tensor.shape)

    def _join(self, tensors: list[Tensor]) -> list[Tensor]:
        import torch

        return [torch.stack([values(each) for each in tensors], dim=self.dim)]


def _raise_without_dimension(
    operation: Operation, name: str, tensor: Tensor, dim: int
) -> None:
    dims = len(tensor.shape)
    if not -dims <= dim < dims:
        raise operation.refuse(
            f"{name!r} has {dims} dimensions.",
            "Correct the dimension.",
            shape=tuple(tensor.shape),
        )
