"""Operations that add tensors, or cut and join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
)
from pytest_nlam_compat.migrations.operations.exchange import (
    exchange,
    length_of,
    refuse_taken,
)
from pytest_nlam_compat.migrations.operations.names import Drop
from pytest_nlam_compat.migrations.operations.tensors import POWERS
from pytest_nlam_compat.migrations.saved_run import Optimizer, SavedRun
from pytest_nlam_compat.migrations.values import dtype_named, values

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Add(Operation):
    """Add a tensor of one value.

    A parameter has no moments at first, as one that never had a gradient.

    Attributes
    ----------
    name : str
    shape : tuple of int
        ``(0,)`` for an empty tensor, ``()`` for a scalar.
    fill : float
        Zero by default.
    dtype : str
        ``"float32"`` by default.
    buffer : bool
        Whether the optimizer doesn't count it.
    before : str, optional
        Name of the tensor that it stands before, where the model registers
        it; at the end by default. For a parameter this is its position.

    Raises
    ------
    CompatError
        The name is taken, or there is nothing named `before`.
    """

    name: str
    shape: tuple[int, ...]
    fill: float = 0.0
    dtype: str = "float32"
    buffer: bool = False
    before: str | None = None

    def apply(self, run: SavedRun) -> SavedRun:
        """Add it to the state_dict, and a parameter to the positions."""
        refuse_taken(self, run, [self.name])
        if self.before is not None and self.before not in run.state_dict:
            raise nothing_matched(self, run, self.before)
        tensors = list(run.state_dict.items())
        place = [*run.state_dict, None].index(self.before)
        import torch

        new = torch.full(self.shape, self.fill, dtype=dtype_named(self.dtype))
        tensors.insert(place, (self.name, new))
        # Buffers have no position: the parameters that stand before count.
        earlier = {name for name, _ in tensors[:place]}
        return replace(
            run,
            state_dict=dict(tensors),
            optimizers=[
                optimizer
                if self.buffer
                else replace(
                    optimizer,
                    names=self._numbered(optimizer.names, earlier),
                )
                for optimizer in run.optimizers
            ],
        )

    def _numbered(self, names: list[str], earlier: set[str]) -> list[str]:
        position = sum(name in earlier for name in names)
        return [*names[:position], self.name, *names[position:]]

    def inverse(self) -> Drop:
        """Drop it again; exact, since the name was free before."""
        return Drop(self.name)


@dataclass(frozen=True, repr=False)
class Split(Operation):
    """Cut a tensor, and its moments, into pieces that take its place.

    Attributes
    ----------
    name : str
    into : mapping of str to int
        Name of each piece to its length, in order.
    dim : int
        Dimension along which to cut.

    Raises
    ------
    CompatError
        No such tensor, a name is taken, or the lengths don't add up and a
        part would be left behind.
    """

    name: str
    into: Mapping[str, int]
    dim: int = 0

    def apply(self, run: SavedRun) -> SavedRun:
        """Cut weight and moments; every piece has the step of the whole."""
        if self.name not in run.state_dict:
            raise nothing_matched(self, run, self.name)
        refuse_taken(self, run, [n for n in self.into if n != self.name])
        length = length_of(self, run, self.name, self.dim)
        if sum(self.into.values()) != length:
            raise self.refuse(
                f"The pieces don't add up to the {length} of {self.name!r}.",
                "Correct their lengths.",
                pieces=sum(self.into.values()),
            )
        return exchange(
            run,
            [self.name],
            self._cut(values(run.state_dict[self.name])),
            [self._cut_moments(optimizer) for optimizer in run.optimizers],
        )

    def _cut(self, tensor: Tensor) -> dict[str, Tensor]:
        pieces = {}
        start = 0
        before = (slice(None),) * (self.dim % tensor.dim())
        for name, length in self.into.items():
            where = (*before, slice(start, start + length))
            pieces[name] = tensor[where].clone()
            start += length
        return pieces

    def _cut_moments(
        self, optimizer: Optimizer
    ) -> dict[str, dict[str, Tensor]]:
        cut: dict[str, dict[str, Tensor]] = {}
        for kind, moment in optimizer.moments.get(self.name, {}).items():
            pieces: Mapping[str, Tensor] = (
                self._cut(values(moment))
                if kind in POWERS
                else {name: values(moment).clone() for name in self.into}
            )
            for name, piece in pieces.items():
                cut.setdefault(name, {})[kind] = piece
        return cut

    def inverse(self) -> Concatenate:
        """Join the pieces again."""
        return Concatenate(tuple(self.into), self.name, dim=self.dim)


@dataclass(frozen=True, repr=False)
class Concatenate(Operation):
    """Join tensors, and their moments, to one in the place of the first.

    Attributes
    ----------
    names : tuple of str
        In order.
    into : str
    dim : int
        Dimension along which to join.

    Raises
    ------
    CompatError
        A tensor is missing, shapes don't fit, the name is taken, or the
        moments of the tensors were not updated alike.
    """

    names: tuple[str, ...]
    into: str
    dim: int = 0

    def apply(self, run: SavedRun) -> SavedRun:
        """Join weights and moments."""
        for name in self.names:
            if name not in run.state_dict:
                raise nothing_matched(self, run, name)
        if self.into not in self.names:
            refuse_taken(self, run, [self.into])
        self._refuse_shapes(run)
        joined = self._join([run.state_dict[name] for name in self.names])
        return exchange(
            run,
            list(self.names),
            {self.into: joined},
            [self._join_moments(optimizer) for optimizer in run.optimizers],
        )

    def _refuse_shapes(self, run: SavedRun) -> None:
        shapes = {}
        for name in self.names:
            length_of(self, run, name, self.dim)
            shape = list(run.state_dict[name].shape)
            shape[self.dim] = -1
            shapes[name] = tuple(shape)
        if len(set(shapes.values())) > 1:
            raise self.refuse(
                "The tensors don't fit together.",
                "Correct the names or the dimension.",
                shapes=", ".join(
                    str(tuple(run.state_dict[name].shape))
                    for name in self.names
                ),
            )

    def _join(self, tensors: Sequence[Tensor]) -> Tensor:
        import torch

        return torch.cat([values(tensor) for tensor in tensors], dim=self.dim)

    def _join_moments(
        self, optimizer: Optimizer
    ) -> dict[str, dict[str, Tensor]]:
        found = [optimizer.moments.get(name, {}) for name in self.names]
        steps = [
            float(values(kinds["step"])) if "step" in kinds else None
            for kinds in found
        ]
        if any(set(kinds) != set(found[0]) for kinds in found) or (
            len(set(steps)) > 1
        ):
            raise self.refuse(
                "The tensors were not updated alike: one step count can't "
                "stand for them.",
                "Migrate without its state: nlam-compat upgrade "
                "--drop-optimizer.",
                steps=", ".join(
                    "none" if step is None else str(step) for step in steps
                ),
            )
        if not found[0]:
            return {}
        return {
            self.into: {
                kind: self._join([kinds[kind] for kinds in found])
                if kind in POWERS
                else found[0][kind]
                for kind in found[0]
            }
        }
