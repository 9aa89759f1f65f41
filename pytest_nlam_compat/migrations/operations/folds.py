"""Folding a change of units of inputs into a Linear.

Let an old input be x = a x' + c of the new one. Then

    W x + b = (W a) x' + (b + W c),

so W' = W a and b' = b + W c give the same outputs. The gradients are

    dL/dW' = (dL/dW - dL/db c) / a,    dL/db' = dL/db,

linear, so ``exp_avg`` has an exact image. ``exp_avg_sq`` of the weight has
one where c = 0 only: the mean of a product of gradients is stored nowhere.
Elsewhere it is reset to the most that it can have been,

    E[(g - h c)^2] <= (sqrt(E[g^2]) + |c| sqrt(E[h^2]))^2,

and `Optimizer.reset` says so. Zero would not do: with ``exp_avg`` kept, the
first step of a resumed training was 30 times the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_nlam_compat.migrations.operations.base import (
    POWERS,
    WITHOUT_OPTIMIZER,
    Operation,
)
from pytest_nlam_compat.migrations.operations.columns import (
    first_column,
    width_of,
)
from pytest_nlam_compat.migrations.operations.tensors import times
from pytest_nlam_compat.migrations.saved_run import Optimizer, SavedRun, values

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(repr=False, eq=False)
class FoldInputs(Operation):
    """Fold a change of units of inputs, given as numbers, into a Linear.

    Old input = scale * new input + shift, for each column of a block that
    begins at `start`; negative counts from the end.
    """

    layer: str
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.shift):
            raise ValueError("scale and shift differ in length")

    def apply(self, run: SavedRun) -> SavedRun:
        """Fold into weight, bias and moments."""
        return fold_inputs(
            self, run, self.layer, self.start, self.scale, self.shift
        )


def fold_inputs(
    operation: Operation,
    run: SavedRun,
    layer: str,
    start: int,
    scale: Sequence[float],
    shift: Sequence[float],
) -> SavedRun:
    """Fold a change of units of the inputs from `start` on into a Linear.

    Refuses a layer that lacks weight, bias or columns, and moments of only one
    of weight and bias.
    """
    import torch

    weight, bias = f"{layer}.weight", f"{layer}.bias"
    operation.raise_if_missing(run, weight, bias)
    old, added_to = (values(run.state_dict[name]) for name in (weight, bias))
    width = width_of(operation, weight, old)
    first = first_column(operation, weight, width, start, len(scale))
    units = _Units(
        slice(first, first + len(scale)),
        torch.tensor(scale, dtype=torch.float64),
        torch.tensor(shift, dtype=torch.float64),
    )
    folded = old.clone()
    folded[:, units.columns] = times(old[:, units.columns], units.scale)
    added = old.double()[:, units.columns] @ units.shift
    new = {
        weight: folded,
        bias: (added_to.double() + added).to(added_to.dtype),
    }
    return replace(
        run,
        state_dict={**run.state_dict, **new},
        optimizers=[
            _fold_moments(operation, optimizer, weight, bias, units)
            for optimizer in run.optimizers
        ],
    )


class _Units(NamedTuple):
    """Columns whose old inputs are scale * new input + shift, (columns,)."""

    columns: slice
    scale: Tensor
    shift: Tensor


def _fold_moments(
    operation: Operation,
    optimizer: Optimizer,
    weight: str,
    bias: str,
    units: _Units,
) -> Optimizer:
    moments = optimizer.moments
    if (weight in moments) != (bias in moments):
        raise operation.refuse(
            "The optimizer has moments for only one of weight and bias.",
            WITHOUT_OPTIMIZER,
            weight=weight,
            bias=bias,
        )
    if weight not in moments:
        return optimizer
    reset = dict(optimizer.reset)
    folded = dict(moments[weight])
    for kind in folded.keys() & POWERS:
        moment = values(folded[kind])
        image, lost = _fold_moment(
            moment.double()[:, units.columns],
            values(moments[bias][kind]).double(),
            units,
            POWERS[kind],
        )
        folded[kind] = moment.clone()
        folded[kind][:, units.columns] = image.to(moment.dtype)
        if lost:
            columns = [str(units.columns.start + i) for i in lost]
            reset[f"{weight}.{kind}"] = (
                f"columns {', '.join(columns)}: no exact image under an offset "
                "of the input, set to its upper bound"
            )
    return replace(optimizer, moments={**moments, weight: folded}, reset=reset)


def _fold_moment(
    of_weight: Tensor, of_bias: Tensor, units: _Units, power: int
) -> tuple[Tensor, list[int]]:
    """Return the image (h, columns) of a moment, and which columns were reset.

    The moments are float64, (h, columns) of the weight and (h,) of the bias;
    `power` is 1 for the mean of the gradient, 2 for that of its square.
    """
    constant = units.scale == 0
    if power == 1:
        image = of_weight - of_bias[:, None] * units.shift
        reset = []
    else:
        offset = of_bias.sqrt()[:, None] * units.shift.abs()
        image = (of_weight.sqrt() + offset) ** 2
        reset = (~constant & (units.shift != 0)).nonzero().flatten().tolist()
    # A new input of scale 0 is constant at 0, and so are its gradients.
    factors = units.scale**-power
    factors[constant] = 0
    return image * factors, reset
