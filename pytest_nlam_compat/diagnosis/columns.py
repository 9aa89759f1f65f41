"""What became of the columns of an input, by their moments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.alignment import agrees, row_difference
from pytest_nlam_compat.diagnosis.column_change import ColumnChange
from pytest_nlam_compat.diagnosis.precision import narrow
from pytest_nlam_compat.diagnosis.trace import column_moments, fingerprint

# Moments are over at least as many entries as a mesh has nodes; equal columns
# agree to rounding, and others that agree by chance to this were never met.
_SAME = 1e-10
# Rounding of a factor of two moments; no number is so short by chance.
_SHORT = 1e-13


# Of the mean square: as much as rounding to bfloat16 can change it.
_ROUNDED = 2e-2
# Each of them doubles what there is to try.
_MOST_HIDDEN = 8
# Of columns with equal moments: 120 orders.
_MOST_TWINS = 5
# Blocks that code concatenates: sender, receiver and edge, or node and
# aggregate. Their columns can have equal moments, and then only trying helps.
_BLOCKS = (2, 3)


def explain_columns(
    then: Tensor, row: Tensor, tensor: Tensor, whole: Tensor | None = None
) -> ColumnChange:
    """Find the change of columns that turns a recorded input into this one.

    Parameters
    ----------
    then : Tensor
        (2, C) recorded mean and mean square of each column.
    row : Tensor
        Recorded fingerprint.
    tensor : Tensor
        (..., C) the input now.
    whole : Tensor or None
        The recorded input itself, where it is known.

    Returns
    -------
    ColumnChange
        Confirmed by the fingerprint, and by the input, where that is
        possible.
    """
    moments = column_moments(tensor)
    found = compare_columns(then, moments)

    def confirmed(change: ColumnChange) -> bool:
        before = undo(change, tensor, then.shape[1])
        if before is None or not agrees(
            row_difference(fingerprint(before), row)
        ):
            return False
        return whole is None or _alike(before, whole)

    for change in (found, *_by_blocks(tensor.shape[-1], then.shape[1])):
        if confirmed(change):
            return replace(change, confirmed=True)
    fit = [change for change in _by_twins(found, then) if confirmed(change)]
    if fit:
        others = tuple(change.order for change in fit[1:])
        return replace(fit[0], confirmed=True, others=others)
    for change in _by_signs(found, moments):
        if confirmed(change):
            return replace(change, confirmed=True)
    return found


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    apart = (one.cpu() - other).abs().max()
    return agrees(float(apart / other.square().mean().sqrt()))


def rounded_columns(then: Tensor, tensor: Tensor) -> str:
    """Name the precision to which the columns that differ were rounded."""
    now = column_moments(tensor)
    if now.shape != then.shape:
        return ""
    differ = ~_equal(then, now).diagonal()
    close = (now[1] - then[1]).abs() <= _ROUNDED * then[1]
    if not bool(differ.any()) or not bool(close.all()):
        return ""
    return narrow(tensor[..., differ])


def undo(change: ColumnChange, tensor: Tensor, width: int) -> Tensor | None:
    """Turn an input back into the recorded one, if a change says how."""
    if change.kind not in ("reordered", "scaled", "shifted", "added"):
        return None
    if sorted(o for o in change.order if o >= 0) != list(range(width)):
        return None
    units = tensor
    if change.scale:
        # Not by way of the default type: rounded to float32 it fits nothing.
        shift, scale = tensor.new_tensor([change.shift, change.scale])
        units = (tensor - shift) / scale
    places = [change.order.index(old) for old in range(width)]
    return units[..., places]


def other_blocks(width: int) -> Iterator[tuple[int, ...]]:
    """Yield every other order of the blocks that code concatenates."""
    for count in _BLOCKS:
        size, rest = divmod(width, count)
        if rest:
            continue
        for blocks in permutations(range(count)):
            order = tuple(b * size + i for b in blocks for i in range(size))
            if order != tuple(range(width)):
                yield order


def _by_blocks(width: int, recorded: int) -> Iterator[ColumnChange]:
    if width == recorded:
        for order in other_blocks(width):
            yield ColumnChange("reordered", order)


def _by_twins(found: ColumnChange, then: Tensor) -> Iterator[ColumnChange]:
    """Yield other orders of a few columns that have equal moments.

    Static features that are standardised all have a mean of zero and a mean
    square of one, so that moments don't show their order.
    """
    if found.kind not in ("same", "reordered"):
        return
    same = _equal(then, then)
    groups = {tuple(row.nonzero().flatten().tolist()) for row in same}
    for group in sorted(groups):
        if not 2 <= len(group) <= _MOST_TWINS:
            continue
        for other in permutations(group):
            moved = dict(zip(group, other, strict=True))
            order = tuple(moved.get(old, old) for old in found.order)
            if other != group:
                yield ColumnChange("reordered", order)


def _by_signs(found: ColumnChange, now: Tensor) -> Iterator[ColumnChange]:
    """Yield sign changes of columns that have no mean, which hide them."""
    if found.kind not in ("same", "scaled"):
        return
    size = now[1].sqrt()
    hidden = ((now[0].abs() <= _SAME * size) & (size > 0)).nonzero().flatten()
    columns = hidden.tolist()[:_MOST_HIDDEN]
    scale = list(found.scale) or [1.0] * now.shape[1]
    for signs in product((1.0, -1.0), repeat=len(columns)):
        flipped = list(scale)
        for column, sign in zip(columns, signs, strict=True):
            flipped[column] *= sign
        if flipped != scale:
            none = (0.0,) * len(flipped)
            yield ColumnChange("scaled", found.order, tuple(flipped), none)


def compare_columns(then: Tensor, now: Tensor) -> ColumnChange:
    """Tell how the columns of a tensor have changed.

    Parameters
    ----------
    then, now : Tensor
        (2, C) mean and mean square of each column.

    Returns
    -------
    ColumnChange
        What the moments allow; they prove nothing.
    """
    same = _equal(then, now)
    order = _assign(same)
    width = now.shape[1]
    if width != then.shape[1]:
        kind = "added" if width > then.shape[1] else "removed"
        known = [old for old in order if old >= 0]
        if len(known) < min(width, then.shape[1]):
            return ColumnChange("other")
        return ColumnChange(kind, tuple(order))
    if list(order) == list(range(width)):
        return ColumnChange("same", tuple(order))
    if all(old >= 0 for old in order):
        return ColumnChange("reordered", tuple(order))
    return _units(then, now, same)


def _equal(then: Tensor, now: Tensor) -> Tensor:
    """(C now, C then): whether moments are equal."""
    size = then[1].sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    mean = (now[0][:, None] - then[0][None]).abs() <= _SAME * size
    square = (now[1][:, None] - then[1][None]).abs() <= _SAME * size.square()
    return mean & square


def _assign(same: Tensor) -> list[int]:
    """Give each column one of the recorded; its own place first."""
    width, recorded = same.shape
    order = [-1] * width
    free = set(range(recorded))
    for column in range(min(width, recorded)):
        if same[column, column]:
            order[column] = column
            free.discard(column)
    for column in range(width):
        if order[column] < 0:
            fits = [old for old in sorted(free) if same[column, old]]
            if fits:
                order[column] = fits[0]
                free.discard(fits[0])
    return order


def _units(then: Tensor, now: Tensor, same: Tensor) -> ColumnChange:
    """Read columns that changed, each in its place, as other units."""
    scales, shifts = [], []
    exact = True
    for column in range(now.shape[1]):
        if same[column, column]:
            scales.append(1.0)
            shifts.append(0.0)
            continue
        factor = _factor(then[:, column], now[:, column])
        if factor is not None:
            scales.append(factor)
            shifts.append(0.0)
            continue
        exact = False
        unit = _affine(then[:, column], now[:, column])
        if unit is None:
            return ColumnChange("other")
        scales.append(unit[0])
        shifts.append(unit[1])
    return ColumnChange(
        "scaled" if exact else "shifted",
        tuple(range(now.shape[1])),
        tuple(scales),
        tuple(shifts),
    )


def _factor(then: Tensor, now: Tensor) -> float | None:
    """Return the factor between two columns, if mean and square have one."""
    mean, square = then.tolist()
    mean_now, square_now = now.tolist()
    if square <= 0 or square_now <= 0:
        return None
    size = math.sqrt(square_now / square)
    for factor in (size, -size):
        if abs(mean_now - factor * mean) <= _SAME * math.sqrt(square_now):
            return _exact(factor)
    return None


def _affine(then: Tensor, now: Tensor) -> tuple[float, float] | None:
    """Return scale and shift between two columns; always possible."""
    mean, square = then.tolist()
    mean_now, square_now = now.tolist()
    variance, variance_now = square - mean**2, square_now - mean_now**2
    if variance <= _SAME * square or variance_now <= _SAME * square_now:
        return None
    factor = _exact(math.sqrt(variance_now / variance))
    return factor, mean_now - factor * mean


def _exact(factor: float) -> float:
    """Take off the rounding of a factor that is a short number."""
    short = float(f"{factor:.9g}")
    return short if abs(factor - short) <= _SHORT * abs(factor) else factor
