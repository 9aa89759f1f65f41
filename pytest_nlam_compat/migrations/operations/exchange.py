"""Putting tensors in the place of others, with their moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor


def exchange(
    run: SavedRun,
    old: Sequence[str],
    new: Mapping[str, Tensor],
    moments: Sequence[Mapping[str, dict[str, Tensor]]],
) -> SavedRun:
    """Put tensors in the place of others.

    Parameters
    ----------
    run : SavedRun
    old : sequence of str
        Names of what goes; the new ones stand where the first of them stood.
    new : mapping of str to Tensor
    moments : sequence of mapping
        Moments of the new tensors, for each optimizer.

    Returns
    -------
    SavedRun
        What an operation had reset of the old tensors counts for all new.
    """
    gone = set(old)
    tensors: dict[str, Tensor] = {}
    for name, tensor in run.state_dict.items():
        if name == old[0]:
            tensors.update(new)
        elif name not in gone:
            tensors[name] = tensor
    optimizers = []
    for optimizer, of_new in zip(run.optimizers, moments, strict=True):
        names: list[str] = []
        for name in optimizer.names:
            if name == old[0]:
                names.extend(new)
            elif name not in gone:
                names.append(name)
        kept = {k: v for k, v in optimizer.moments.items() if k not in gone}
        reset: dict[str, str] = {}
        for moment, reason in optimizer.reset.items():
            name, _, kind = moment.rpartition(".")
            for heir in new if name in gone else [name]:
                reset[f"{heir}.{kind}"] = reason
        optimizers.append(
            replace(
                optimizer, names=names, moments={**kept, **of_new}, reset=reset
            )
        )
    stored_types = {
        key: stored
        for key, stored in run.stored_types.items()
        if key[0] not in gone
    }
    for (name, kind), stored in run.stored_types.items():
        if name == old[0]:
            stored_types |= {(heir, kind): stored for heir in new}
    return replace(
        run,
        state_dict=tensors,
        optimizers=optimizers,
        stored_types=stored_types,
    )


def refuse_taken(
    operation: Operation, run: SavedRun, names: Sequence[str]
) -> None:
    """Raise where one of the names is taken.

    Raises
    ------
    CompatError
    """
    for name in names:
        if name in run.state_dict:
            raise operation.refuse(
                f"There is a tensor {name!r} already.",
                "Drop or rename it first.",
            )


def length_of(operation: Operation, run: SavedRun, name: str, dim: int) -> int:
    """Give the length of a tensor along a dimension.

    Raises
    ------
    CompatError
        It has no such dimension.
    """
    shape = run.state_dict[name].shape
    if not -len(shape) <= dim < len(shape):
        raise operation.refuse(
            f"{name!r} has {len(shape)} dimensions.",
            "Correct the dimension.",
            shape=tuple(shape),
        )
    return shape[dim]
