"""A fixed sample of a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

ENTRIES = 8


def sample(tensor: Tensor, entries: int = ENTRIES) -> Tensor:
    """Return entries at equal distances in the flattened tensor.

    Parameters
    ----------
    tensor : Tensor
        Of any shape, not empty.
    entries : int
        How many at most; a smaller tensor gives all of its entries.

    Returns
    -------
    Tensor
        (min(entries, numel),), same dtype.
    """
    flat = tensor.detach().reshape(-1)
    count = min(entries, len(flat))
    position = torch.linspace(0, len(flat) - 1, count).round().long()
    return flat[position.to(flat.device)]
