"""Which part of the clamping of a variable has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Of the spread: how well a hypothesis has to fit.
_FIT = 1e-7
# Once mapped out of the limits; neural-lam cuts off at log(1e-6) and 20.
_FURTHEST = 10.0
# Relative: a fit ends where float64 does.
_EXACT = 1e-15
_INDICES = {
    "clamp_lower_upper_idx": ("sigmoid_lower_lims", "sigmoid_upper_lims"),
    "clamp_lower_idx": ("softplus_lower_lims", None),
    "clamp_upper_idx": (None, "softplus_upper_lims"),
}
BUFFERS = frozenset(
    {*_INDICES, *(n for pair in _INDICES.values() for n in pair if n)}
)
# What may have changed, by attributes of a clamp.
_PARTS = {
    "limits": ("lower", "upper"),
    "sharpness": ("sharpness",),
    "centre": ("centre",),
}
# Where a search begins, unless at what it was.
_STARTS = {"sharpness": [[0.5], [2.0], [8.0]]}


@dataclass(frozen=True)
class Clamp:
    """Maps all numbers into limits, by a sigmoid or a softplus.

    Attributes
    ----------
    lower, upper : float or None
        In standard deviations; at least one.
    sharpness, centre : float
    """

    lower: float | None
    upper: float | None
    sharpness: float = 1.0
    centre: float = 0.0

    def into(self, x: Tensor) -> Tensor:
        """Map numbers into the limits."""
        k, x = self.sharpness, x - self.centre
        if self.lower is None:
            assert self.upper is not None
            return self.upper - softplus(-x, beta=k)
        if self.upper is None:
            return self.lower + softplus(x, beta=k)
        return self.lower + (self.upper - self.lower) * torch.sigmoid(k * x)

    def out_of(self, x: Tensor) -> Tensor:
        """Undo it; NaN outside of the limits."""
        k = self.sharpness
        if self.lower is None:
            assert self.upper is not None
            found = -torch.log(torch.expm1(k * (self.upper - x))) / k
        elif self.upper is None:
            found = torch.log(torch.expm1(k * (x - self.lower))) / k
        else:
            share = (x - self.lower) / (self.upper - self.lower)
            found = torch.logit(share) / k
        return found + self.centre


def clamps(state_dict: Mapping[str, Tensor]) -> dict[int, Clamp]:
    """Return how variables are clamped, by the buffers of a checkpoint."""
    ends = {n.rpartition(".")[2]: tensor for n, tensor in state_dict.items()}
    found = {}
    for indices, limits in _INDICES.items():
        for place, index in enumerate(ends.get(indices, torch.empty(0))):
            lower, upper = (
                None if name is None else float(ends[name][place])
                for name in limits
            )
            found[int(index)] = Clamp(lower, upper)
    return found


def explain_clamping(
    clamp: Clamp, previous: Tensor, then: Tensor, now: Tensor
) -> str:
    """Say what has changed for one variable; the tensors have one shape.

    Which part it is follows from the recorded outputs: they say how far a
    variable was moved between the map out of the limits and the map back.
    """
    # NaN is not inside.
    inside = clamp.out_of(previous).abs() < _FURTHEST
    inside &= clamp.out_of(then).abs() < _FURTHEST
    previous, then, now = previous[inside], then[inside], now[inside]
    if now.numel() < 4:
        return "clamping has changed"
    start = clamp.out_of(previous)
    change = clamp.out_of(then) - start
    spread = float(now.std())

    def fits(left: Tensor) -> bool:
        return bool((left - now).abs().max() <= _FIT * spread)

    if fits(previous + change):
        return "clamping no longer changes values within the limits"
    for part, names in _PARTS.items():
        free = [n for n in names if getattr(clamp, n) is not None]
        for first in _STARTS.get(part, [[getattr(clamp, n) for n in free]]):
            if fits(_best(clamp, free, first, previous, change, now)):
                has = "have" if part == "limits" else "has"
                return f"the {part} of clamping {has} changed"
    return "clamping is applied differently"


def _best(
    clamp: Clamp,
    free: Sequence[str],
    first: Sequence[float],
    previous: Tensor,
    change: Tensor,
    now: Tensor,
) -> Tensor:
    """Return the outputs of the clamp that comes closest to what they are.

    Its `free` attributes differ, and `first` is where the search begins. It may
    have changed where numbers are mapped out of the limits, where they are
    mapped back, or in both places.
    """
    from scipy.optimize import least_squares

    def outputs(values: Sequence[float], out: bool, back: bool) -> Tensor:
        new = replace(clamp, **dict(zip(free, map(float, values), strict=True)))
        moved = (new if out else clamp).out_of(previous) + change
        return (new if back else clamp).into(moved)

    def residuals(values: Sequence[float], out: bool, back: bool) -> Tensor:
        return (outputs(values, out, back) - now).nan_to_num(1e3, 1e3, 1e3)

    exact = dict.fromkeys(("ftol", "gtol", "xtol"), _EXACT)
    best, least = now + float("inf"), float("inf")
    for places in ((True, True), (True, False), (False, True)):
        found = least_squares(residuals, first, args=places, **exact)
        if found.cost < least:
            best, least = outputs(found.x, *places), found.cost
    return best
