"""Which part of the clamping of a variable has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Of the spread: how well a hypothesis has to fit.
_FIT = 1e-7
# From a limit, in standard deviations; neural-lam cuts off at 1e-6 and 20.
_NEAREST = 1e-4  # still far from that
_FURTHEST = 15.0
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
# Where the search for a sharpness begins.
_STARTS = (0.5, 2.0, 8.0)


@dataclass(frozen=True)
class Clamp:
    """Maps all numbers into limits, by a sigmoid or a softplus.

    Attributes
    ----------
    lower, upper : float or None
        In standard deviations; at least one.
    sharpness : float
    """

    lower: float | None
    upper: float | None
    sharpness: float = 1.0

    def into(self, x: Tensor) -> Tensor:
        """Map numbers into the limits."""
        k = self.sharpness
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
            return -torch.log(torch.expm1(k * (self.upper - x))) / k
        if self.upper is None:
            return torch.log(torch.expm1(k * (x - self.lower))) / k
        return torch.logit((x - self.lower) / (self.upper - self.lower)) / k

    def within(self, x: Tensor) -> Tensor:
        """Tell which numbers are far enough from the limits to tell."""
        inside = torch.ones_like(x, dtype=torch.bool)
        width = (self.upper or 0.0) - (self.lower or 0.0)
        both = self.lower is not None and self.upper is not None
        near, far = _NEAREST * (width if both else 1.0), _FURTHEST
        for limit, sign in ((self.lower, 1), (self.upper, -1)):
            if limit is not None:
                apart = sign * (x - limit)
                inside &= (apart > near) & (both | (apart < far))
        return inside


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
    inside = clamp.within(previous) & clamp.within(then)
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
    # What is computed between the two maps is linear.
    columns = torch.stack([start, change, torch.ones_like(start)], dim=-1)
    wanted = clamp.out_of(now)
    if bool(wanted.isfinite().all()):
        factors = torch.linalg.lstsq(columns, wanted[:, None]).solution
        if fits(clamp.into((columns @ factors).squeeze(-1))):
            moved = abs(float(factors[2])) > _FIT
            part = "centre" if moved else "sharpness"
            return f"the {part} of clamping has changed"
    for part, build, starts in _hypotheses(clamp):
        for first in starts:
            if fits(_best(build, first, clamp, previous, change, now)):
                return f"the {part} changed"
    return "clamping is applied differently"


Build = Callable[[list[float]], Clamp]


def _hypotheses(
    clamp: Clamp,
) -> Iterator[tuple[str, Build, list[list[float]]]]:
    """Yield what may have changed, how, and where to begin to look."""
    limits = [x for x in (clamp.lower, clamp.upper) if x is not None]

    def with_limits(values: list[float]) -> Clamp:
        given = iter(values)
        lower = None if clamp.lower is None else next(given)
        return Clamp(lower, None if clamp.upper is None else next(given))

    def with_sharpness(values: list[float]) -> Clamp:
        return Clamp(clamp.lower, clamp.upper, values[0])

    yield "limits of clamping have", with_limits, [limits]
    yield "sharpness of clamping has", with_sharpness, [[k] for k in _STARTS]


def _best(
    build: Build,
    first: list[float],
    clamp: Clamp,
    previous: Tensor,
    change: Tensor,
    now: Tensor,
) -> Tensor:
    """Return the outputs of the clamp that comes closest to what they are.

    It may have changed where numbers are mapped out of the limits, where they
    are mapped back, or in both places.
    """
    from scipy.optimize import least_squares

    def outputs(values: list[float], out: bool, back: bool) -> Tensor:
        new = build(values)
        moved = (new if out else clamp).out_of(previous) + change
        return (new if back else clamp).into(moved)

    def residuals(values: list[float], out: bool, back: bool) -> Tensor:
        return (outputs(values, out, back) - now).nan_to_num(1e3, 1e3, 1e3)

    exact = dict.fromkeys(("ftol", "gtol", "xtol"), _EXACT)
    best, least = now + float("inf"), float("inf")
    for places in ((True, True), (True, False), (False, True)):
        found = least_squares(residuals, first, args=places, **exact)
        if found.cost < least:
            best, least = outputs(found.x, *places), found.cost
    return best
