"""The gate that each case must pass: a change of any weight must show.

In a small untrained model some weights move the outputs by less than rounding
does; a change of what they mean would go unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.numerics.comparison import spread
from pytest_nlam_compat.numerics.tolerances import FLOAT64, LOSS

# How far a change of 10 % in a weight must move the outputs.
TIMES_FLOAT64_TOLERANCE = 1000.0
TIMES_FLOAT32_NOISE = 20.0
PERTURBATION = 0.1

Run = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Strength:
    """Figures of a case.

    An effect is the largest change of an output, over the spread of its
    variable.
    """

    # Of adding random 10 % of its root mean square to a parameter tensor.
    parameters: dict[str, float]
    # Of scaling an input column of a grid embedder by 1.1.
    columns: dict[str, float]
    required: float

    @property
    def weak(self) -> dict[str, float]:
        """Parameters and columns without the required effect."""
        return {
            name: effect
            for name, effect in (self.parameters | self.columns).items()
            # Not "<": the effect is NaN if the model returns NaN.
            if not effect >= self.required
        }

    def plain(self) -> dict[str, Any]:
        """Return the figures, rounded, as they are recorded."""
        return {
            "required": self.required,
            "parameters": _rounded(self.parameters),
            "columns": _rounded(self.columns),
        }


def required(noise32: float) -> float:
    """Return the effect that a change of 10 % must have, over the spread."""
    return max(
        TIMES_FLOAT64_TOLERANCE * FLOAT64.relative,
        TIMES_FLOAT32_NOISE * noise32,
    )


def measure(
    module: nn.Module,
    run: Run,
    noise32: float,
    generator: torch.Generator,
    suspects: Iterable[str],
) -> Strength:
    """Perturb each parameter tensor and input column in turn.

    Stops at the first that is too weak: the case is drawn anew then. `module`
    is in float64 and restored, `run` returns its outputs by name, `suspects`
    are parameters to begin with because they were too weak before.
    """
    golden = run()
    figures = Strength({}, {}, required(noise32))
    by_name = dict(module.named_parameters())
    for name in dict.fromkeys([*suspects, *by_name]):
        parameter = by_name[name]
        size = parameter.detach().square().mean().sqrt()
        random = torch.randn(
            parameter.shape, generator=generator, dtype=parameter.dtype
        )
        step = PERTURBATION * size * random
        figures.parameters[name] = _effect(parameter, step, run, golden)
        if figures.weak:
            break
        if _embeds_grid(name):
            for column in range(parameter.shape[1]):
                step = torch.zeros_like(parameter)
                step[:, column] = PERTURBATION * parameter[:, column]
                effect = _effect(parameter, step, run, golden)
                figures.columns[f"{name}[:, {column}]"] = effect
    return figures


def estimate(module: nn.Module, loss: Tensor) -> Strength:
    """Estimate how far a change of 10 % moves a loss, over its size.

    To first order, at the cost of one gradient: of each parameter, by random
    numbers of that size, the standard deviation; of each input column of a
    grid embedder, scaled.
    """
    loss.backward()  # type: ignore[no-untyped-call]
    size = abs(float(loss.detach())) / PERTURBATION
    figures = Strength({}, {}, TIMES_FLOAT64_TOLERANCE * LOSS.relative)
    for name, parameter in module.named_parameters():
        weight, gradient = parameter.detach(), parameter.grad
        if gradient is None:
            figures.parameters[name] = 0.0
            continue
        scale = float(weight.square().mean().sqrt())
        figures.parameters[name] = scale * float(gradient.norm()) / size
        if _embeds_grid(name):
            effects = (weight * gradient).sum(dim=0).abs() / size
            for column, effect in enumerate(effects.tolist()):
                figures.columns[f"{name}[:, {column}]"] = effect
    return figures


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.2e}") for name, value in figures.items()}


def _embeds_grid(name: str) -> bool:
    pattern = r"(.*\.)?grid_([^.]*_)?embedder\.0\.weight"
    return re.fullmatch(pattern, name) is not None


def _effect(
    parameter: nn.Parameter,
    step: Tensor,
    run: Run,
    golden: Mapping[str, Tensor],
) -> float:
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(step)
    try:
        moved = run()
    finally:
        with torch.no_grad():
            parameter.copy_(before)
    return max(
        float(((moved[name] - golden[name]).abs() / spread(golden[name])).max())
        for name in golden
    )
