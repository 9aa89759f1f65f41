"""Compare outputs with a golden, variable by variable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Of its magnitude: what varies by less than float32 can resolve is a constant.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Difference:
    """Where one output differs most from its golden, by its tolerance."""

    # ``prediction``, ``pred_std``, ...
    output: str
    # Name of the feature, or its index.
    variable: str
    # (batch item, step, node), or whatever axes come before the last.
    index: tuple[int, ...]
    obtained: float
    expected: float
    # Absolute, in the unit of the output (standardized).
    allowed: float
    # Difference over the spread of the variable.
    relative: float
    # Difference over what is allowed; the check fails above 1.
    share: float


def spread(golden: Tensor) -> Tensor:
    """Return the standard deviation of each variable over all else.

    Takes (..., d) and returns (d,) float64. A variable that is constant has
    the spread of its magnitude, or 1 if that is 0.
    """
    flat = golden.double().reshape(-1, golden.shape[-1])
    deviation = flat.std(dim=0, unbiased=False)
    magnitude = flat.abs().amax(dim=0)
    magnitude = torch.where(
        magnitude > 0, magnitude, torch.ones_like(magnitude)
    )
    constant = deviation <= _CONSTANT * magnitude
    return torch.where(constant, magnitude, deviation)


def compare(
    obtained: Tensor,
    golden: Tensor,
    allowed: Tensor,
    *,
    output: str,
    variables: Sequence[str] | None = None,
) -> Difference:
    """Compare an output with its golden.

    Parameters
    ----------
    obtained, golden : Tensor
        (..., d), of one shape.
    allowed : Tensor
        (d,) absolute difference that each variable is allowed.
    variables : sequence of str, optional
        Names of the d variables.

    Returns
    -------
    Difference
        The entry that uses the largest share of its tolerance; an infinite
        one if `obtained` is not finite.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if obtained.shape != golden.shape:
        raise ValueError(
            f"{output} has shape {tuple(obtained.shape)}, "
            f"its golden {tuple(golden.shape)}"
        )
    obtained, golden = obtained.detach().double().cpu(), golden.double().cpu()
    difference = (obtained - golden).abs()
    shares = difference / allowed.double().cpu()
    shares = torch.where(shares.isnan(), torch.inf, shares)
    largest = torch.unravel_index(shares.argmax(), shares.shape)
    index = tuple(int(position) for position in largest)
    variable = index[-1]
    name = str(variable) if variables is None else variables[variable]
    return Difference(
        output=output,
        variable=name,
        index=index[:-1],
        obtained=float(obtained[index]),
        expected=float(golden[index]),
        allowed=float(allowed[variable]),
        relative=float(difference[index] / spread(golden)[variable]),
        share=float(shares[index]),
    )


def worst(differences: Iterable[Difference]) -> Difference:
    """Return the difference that uses the largest share of its tolerance."""
    return max(differences, key=lambda difference: difference.share)


SAMPLE_SIZE = 8


def sample(tensor: Tensor) -> Tensor:
    """Return entries at equal distances in the flattened tensor.

    At most `SAMPLE_SIZE`; of a smaller tensor, all of them.
    """
    flat = tensor.detach().reshape(-1)
    count = min(SAMPLE_SIZE, len(flat))
    position = torch.linspace(0, len(flat) - 1, count).round().long()
    # The last one may be rounded up, above 2**24.
    return flat[position.clamp(max=len(flat) - 1).to(flat.device)]
