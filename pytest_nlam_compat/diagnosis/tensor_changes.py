"""How a tensor has changed: order and units of its columns, rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Literal

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.trace_diff import agrees, row_difference
from pytest_nlam_compat.errors import join_some
from pytest_nlam_compat.judging.batch_and_loss import forcing_columns
from pytest_nlam_compat.judging.grade import dtype_name
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.under_test.tracing import column_moments, fingerprint

# Moments of equal columns agree to rounding; others that agree by chance to
# this, over as many entries as a mesh has nodes, were never met.
_SAME = 1e-10
# Of the mean square: as much as rounding to bfloat16 can change it.
_ROUNDED = 2e-2
# Columns whose sign is tried; each doubles the number of tries.
_MOST_HIDDEN = 8
# Columns with equal moments whose orders are tried: 120.
_MOST_TWINS = 5
# Blocks that code concatenates: sender, receiver and edge, or node and
# aggregate. Their columns can have equal moments, and then only trying helps.
_BLOCKS = (2, 3)
# Coarsest first: what fits bfloat16 fits float32.
_LOWER = (torch.bfloat16, torch.float16, torch.float32)
# Entries that fit by chance, such as zeros, are not counted below this many.
_FEWEST = 8
# Rounding that went through a few layers, in units of the last place.
_ULPS = 256


@dataclass(frozen=True)
class ColumnChange:
    """How the columns of an input differ from the recorded ones.

    Attributes
    ----------
    kind : str
        ``units`` are factors, which include changes of sign, and offsets.
    order : tuple of int
        Recorded column that each column is now; -1 for a new one.
    scale, shift : tuple of float
        Column now = scale * recorded column + shift, each in its place.
    confirmed : bool
        Whether undoing the change gives the recorded input again.
    others : tuple of tuple of int
        Other orders that are confirmed as well.
    """

    kind: Literal["same", "reordered", "units", "added", "other"]
    order: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    confirmed: bool = False
    others: tuple[tuple[int, ...], ...] = ()

    @property
    def factor(self) -> float | None:
        """The one factor of all columns, if that is all that has changed."""
        alone = len({*self.scale}) == 1 and not any(self.shift)
        return self.scale[0] if alone else None

    def described(self, labels: Sequence[str] = ()) -> str:
        """Say what has changed, by the labels of columns or their numbers."""

        def named(columns: Iterable[int]) -> str:
            return join_some(labels[c] if labels else str(c) for c in columns)

        if self.others:
            count = 1 + len(self.others)
            return f"columns in another order, one of {count} that fit"
        if self.kind == "reordered":
            moved = [new for new, old in enumerate(self.order) if new != old]
            now = named(self.order[new] for new in moved)
            return f"columns {now} instead of {named(moved)}"
        if self.kind == "added":
            new = [i for i, old in enumerate(self.order) if old < 0]
            return f"new columns {join_some(map(str, new))}"
        if self.factor is not None:
            return f"all {unit_text(self.factor, 0.0)}"
        changed: dict[str, list[int]] = {}
        for column, unit in enumerate(zip(self.scale, self.shift, strict=True)):
            if unit != (1.0, 0.0):
                changed.setdefault(unit_text(*unit), []).append(column)
        return "; ".join(
            f"columns {named(c)} {text}" for text, c in changed.items()
        )


def unit_text(factor: float, offset: float) -> str:
    """Say how a column is scaled and shifted."""
    text = "changed sign" if factor == -1 else f"times {factor:.6g}"
    return f"{text} plus {offset:.6g}" if offset else text


def explain_columns(then: Tensor, row: Tensor, tensor: Tensor) -> ColumnChange:
    """Find the change of columns that turns a recorded input into this one.

    Parameters
    ----------
    then : Tensor
        (2, C) recorded mean and mean square of each column.
    row : Tensor
        Recorded fingerprint.
    tensor : Tensor
        (..., C) the input now.
    """
    moments = column_moments(tensor)
    found = _compare(then, moments)

    def confirmed(change: ColumnChange) -> bool:
        before = _undo(change, tensor, then.shape[1])
        return before is not None and agrees(
            row_difference(fingerprint(before), row)
        )

    for change in (found, *_block_orders(tensor.shape[-1])):
        if confirmed(change):
            return replace(change, confirmed=True)
    fit = [c for c in _orders_of_twins(found, then) if confirmed(c)]
    if fit:
        others = tuple(change.order for change in fit[1:])
        return replace(fit[0], confirmed=True, others=others)
    for change in _hidden_signs(found, moments):
        if confirmed(change):
            return replace(change, confirmed=True)
    return found


def rounded_columns(then: Tensor, tensor: Tensor) -> str:
    """Name the precision to which the columns that differ were rounded."""
    now = column_moments(tensor)
    if now.shape != then.shape:
        return ""
    differ = ~_equal(then, now).diagonal()
    close = (now[1] - then[1]).abs() <= _ROUNDED * then[1]
    if not bool(differ.any()) or not bool(close.all()):
        return ""
    return lower_precision(tensor[..., differ])


def lower_precision(tensor: Tensor) -> str:
    """Name the lower precision that holds a tensor exactly, as ``float32``.

    Empty where it needs float64, or has too few entries to tell.
    """
    if tensor.dtype is not torch.float64:
        return dtype_name(tensor.dtype)
    values = tensor[tensor != tensor.round()]
    if values.numel() < _FEWEST:
        return ""
    for dtype in _LOWER:
        if torch.equal(values.to(dtype).double(), values):
            return dtype_name(dtype)
    return ""


def like_rounding(obtained: Tensor, expected: Tensor) -> bool:
    """Tell whether a difference is as small as float32 rounding makes it."""
    scale = expected.abs().max()
    eps = torch.finfo(torch.float32).eps
    return bool((obtained - expected).abs().max() <= _ULPS * eps * scale)


def input_labels(reference: Reference, width: int) -> list[str]:
    """Name the columns that are concatenated for the grid embedder.

    Empty where the width is not that of the grid's input.
    """
    names = reference.dataset.names
    labels = [
        *(f"{name} now" for name in names["state"]),
        *(f"{name} before" for name in names["state"]),
        *forcing_columns(reference),
        *(f"static {name}" for name in names["static"]),
    ]
    return labels if len(labels) == width else []


def _undo(change: ColumnChange, tensor: Tensor, width: int) -> Tensor | None:
    """Turn an input back into the recorded one, if a change says how."""
    if sorted(o for o in change.order if o >= 0) != list(range(width)):
        return None
    units = tensor
    if change.scale:
        # In the tensor's own type: rounded to float32, nothing would fit.
        shift, scale = tensor.new_tensor([change.shift, change.scale])
        units = (tensor - shift) / scale
    places = [change.order.index(old) for old in range(width)]
    return units[..., places]


def _block_orders(width: int) -> Iterator[ColumnChange]:
    """Yield every other order of the blocks that code concatenates."""
    for count in _BLOCKS:
        size, rest = divmod(width, count)
        if rest:
            continue
        for blocks in permutations(range(count)):
            order = tuple(b * size + i for b in blocks for i in range(size))
            if order != tuple(range(width)):
                yield ColumnChange("reordered", order)


def _orders_of_twins(
    found: ColumnChange, then: Tensor
) -> Iterator[ColumnChange]:
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


def _hidden_signs(found: ColumnChange, now: Tensor) -> Iterator[ColumnChange]:
    """Yield changes of sign of columns whose mean of zero hides them."""
    if found.kind not in ("same", "units") or any(found.shift):
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
            yield ColumnChange("units", found.order, tuple(flipped), none)


def _compare(then: Tensor, now: Tensor) -> ColumnChange:
    """Compare the moments of columns, (2, C) each; they prove nothing."""
    same = _equal(then, now)
    order = _match_columns(same)
    width, recorded = same.shape
    if width != recorded:
        # With fewer columns, the weights would not have been loaded.
        if not set(range(recorded)) <= set(order):
            return ColumnChange("other")
        return ColumnChange("added", tuple(order))
    if order == list(range(width)):
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


def _match_columns(same: Tensor) -> list[int]:
    """Assign a recorded column to each column; its own place first."""
    width, recorded = same.shape
    kept = {i for i in range(min(width, recorded)) if same[i, i]}
    free = set(range(recorded)) - kept
    order = []
    for column in range(width):
        fits = [old for old in sorted(free) if same[column, old]]
        old = column if column in kept else next(iter(fits), -1)
        free.discard(old)
        order.append(old)
    return order


def _units(then: Tensor, now: Tensor, same: Tensor) -> ColumnChange:
    """Read columns that changed, each in its place, as other units."""
    width = now.shape[1]
    scale, shift = [1.0] * width, [0.0] * width
    for column in range(width):
        if not same[column, column]:
            unit = _unit(then[:, column].tolist(), now[:, column].tolist())
            if unit is None:
                return ColumnChange("other")
            scale[column], shift[column] = unit
    numbers = likely_numbers(scale), likely_numbers(shift)
    return ColumnChange("units", tuple(range(width)), *numbers)


def _unit(
    then: Sequence[float], now: Sequence[float]
) -> tuple[float, float] | None:
    """Return scale and shift between two columns, by mean and mean square.

    The shift is 0 where a factor alone will do; None for constant columns.
    """
    (mean, square), (mean_now, square_now) = then, now
    if square > 0 and square_now > 0:
        size = math.sqrt(square_now / square)
        for factor in (size, -size):
            if abs(mean_now - factor * mean) <= _SAME * math.sqrt(square_now):
                return factor, 0.0
    variance, variance_now = square - mean**2, square_now - mean_now**2
    if variance <= _SAME * square or variance_now <= _SAME * square_now:
        return None
    factor = math.sqrt(variance_now / variance)
    return factor, mean_now - factor * mean


def likely_numbers(found: Sequence[float]) -> tuple[float, ...]:
    """Return the numbers that code has, for what moments of columns say.

    Those that are equal but for the rounding of moments are one: a short number
    that is within it, else their mean.
    """
    rounded = [float(f"{number:.9g}") for number in found]
    numbers = {}
    for each in rounded:
        alike = [n for n, r in zip(found, rounded, strict=True) if r == each]
        short = float(f"{each:.6g}")
        numbers[each] = short if short == each else sum(alike) / len(alike)
    return tuple(numbers[each] for each in rounded)
