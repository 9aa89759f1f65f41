"""Whether numbers were rounded to a lower precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Coarsest first: what fits bfloat16 fits float32.
_LOWER = (torch.bfloat16, torch.float16, torch.float32)
# Rounding to the coarsest of them; a larger difference has another cause.
_LARGEST = 0.02
# Entries that fit by chance, such as zeros, are not counted below this many.
_FEWEST = 8
# Rounding that went through a few layers, in units of the last place.
_ULPS = 256


def lower_precision(tensor: Tensor) -> str:
    """Name the lower precision that holds a tensor exactly.

    Parameters
    ----------
    tensor : Tensor
        Floating.

    Returns
    -------
    str
        ``float32``; empty where it needs float64 or has too few entries.
    """
    if tensor.dtype is not torch.float64:
        return str(tensor.dtype).removeprefix("torch.")
    values = tensor[tensor != tensor.round()]
    if values.numel() < _FEWEST:
        return ""
    for dtype in _LOWER:
        if torch.equal(values.to(dtype).double(), values):
            return str(dtype).removeprefix("torch.")
    return ""


def lost_precision(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], difference: float
) -> str:
    """Name the precision to which a call rounds its outputs, if it does.

    `difference` is that of the outputs from the recorded ones.
    """
    if difference > _LARGEST or any(lower_precision(t) for t in inputs):
        return ""
    found = [lower_precision(tensor) for tensor in outputs]
    return found[0] if found and all(found) else ""


def like_rounding(obtained: Tensor, expected: Tensor) -> bool:
    """Tell whether a difference is as small as float32 rounding makes it."""
    scale = expected.abs().max()
    eps = torch.finfo(torch.float32).eps
    return bool((obtained - expected).abs().max() <= _ULPS * eps * scale)
