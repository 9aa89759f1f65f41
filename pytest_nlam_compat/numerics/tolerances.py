"""Every tolerance, as a named row with its reason.

A test forbids numbers that stand for tolerances anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_nlam_compat.numerics.comparison import spread


@dataclass(frozen=True)
class Tolerance:
    """One row of the table."""

    name: str
    # Why this much and no more, with what was measured.
    rationale: str
    # Allowed difference over the spread of each variable.
    relative: float = 0.0
    # Allowed difference over the float32 noise, added.
    noise: float = 0.0


FLOAT64 = Tolerance(
    name="float64",
    relative=1e-9,
    rationale="Releases agree to 1e-15 of the spread when model, inputs, "
    "statics and graph are float64; the smallest known silent break is 1e-6.",
)
FLOAT32 = Tolerance(
    name="float32",
    noise=10.0,
    rationale="Ten times the golden's own float32 error. Each parameter "
    "tensor, perturbed by 10 %, moves the outputs by at least 20 times that "
    "error. It is one sample of rounding: an untouched neural-lam uses up to "
    "2.1 of this with other kernels and orders of sums, although at most 0.5 "
    "on 56 of 62 references. Above 0.5, the next row is measured.",
)
FLOAT32_ENSEMBLE = Tolerance(
    name="float32 ensemble",
    noise=4.0,
    rationale="Four times the largest deviation of an ensemble whose weights "
    "and inputs are moved by half a unit of float32. Two float32 rollouts of "
    "an untouched neural-lam differ by at most 1.8 times that, and by 0.3 in "
    "the median: 62 references, 8 sets of kernels, 3 orders of sums.",
)
# Share of the row float32 from which on the ensemble is run.
ENSEMBLE_FROM = 0.5
BATCH = Tolerance(
    name="batch",
    relative=1e-6,
    rationale="The raw series was chosen such that standardising it is exact "
    "in float32; a few roundings are allowed, a wrong column is of order 1.",
)
LOSS = Tolerance(
    name="loss",
    relative=1e-9,
    rationale="As float64. The loss is one number: its spread is its size.",
)
LOSS_FLOAT32 = Tolerance(
    name="loss in float32",
    relative=2e-5,
    rationale="A mean over all nodes, in which rounding cancels. Measured: at "
    "most 1.7e-6. With a training step in bfloat16 it differs by 1.2e-4 to "
    "0.15.",
)
LOSS_FLOAT32_WEIGHTS = Tolerance(
    name="loss with float32 weights",
    relative=1e-7,
    rationale="v0.1.0 and v0.2.0 only: their loss weights stayed float32 in "
    "a float64 model. Measured: at most 3.6e-8. A wrong weight or mask shows "
    "at 1e-2.",
)
TRACE = Tolerance(
    name="trace",
    relative=1e-11,
    rationale="A fingerprint of a layer over the size of its tensor. Releases "
    "agree to 1e-13; what moves the outputs by 1e-9 moves the layer that is "
    "to blame by more than this.",
)
RESUME = Tolerance(
    name="resume",
    relative=1e-6,
    rationale="Over the spread of what one AdamW step adds to the parameters. "
    "Releases agree to 3e-12 on any CPU kernel, and to 8e-8 where the update "
    "is stored in float32 (v0.3.0); two parameters with each other's moments "
    "show at 8e-2.",
)
RESUME_FLOAT32_WEIGHTS = Tolerance(
    name="resume with float32 weights",
    relative=1e-5,
    rationale="v0.1.0 and v0.2.0 only, for the same reason as their loss. "
    "Measured: at most 1.4e-6.",
)

MOST_NOISE32 = 1e-2
"""A float32 error above it is no rounding: a rollout of another model."""

# Least float32 error to expect of a golden: a few roundings of its largest
# value. Without it a golden that happens to be exact would allow nothing.
_ROUNDINGS = 4


def noise32(golden32: Tensor, golden64: Tensor) -> float:
    """Return the float32 error of a golden over the spread of its variables.

    The largest over all variables; both goldens are the same rollout,
    (..., d), in two precisions.
    """
    scale = spread(golden64)
    reference = golden64.reshape(-1, golden64.shape[-1]).double()
    error = (golden32.double().reshape(reference.shape) - reference).abs()
    floor = _ROUNDINGS * torch.finfo(torch.float32).eps
    measured = float((error.amax(dim=0) / scale).max())
    rounding = float((floor * reference.abs().amax(dim=0) / scale).max())
    return max(measured, rounding)


def allowed(
    row: Tolerance, golden: Tensor, noise: float | Tensor = 0.0
) -> Tensor:
    """Return the absolute difference that each variable is allowed.

    Takes a golden (..., d) and its `noise32`, or what the noise is of each
    variable (d,); returns (d,) float64.
    """
    return spread(golden) * (row.relative + row.noise * noise)
