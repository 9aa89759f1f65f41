"""Weights of the loaded model against those that were given to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pytest_nlam_compat.diagnosis.trace_diff import TraceDiff
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# As many names as a line of a message shows.
_SHOWN = 4


def changed_by_loading(walk: TraceDiff, name: str) -> str:
    """Say what loading did to the weights of a module.

    Parameters
    ----------
    walk : TraceDiff
    name : str
        Of a submodule, below the step predictor.

    Returns
    -------
    str
        Empty where they are what the migrated run holds, bit for bit.
    """
    start = f"{walk.prefix}{name}."
    changed, exchanged = differing(walk.subject, walk.module)
    here = [n for n in changed if n.startswith(start)]
    if not here:
        return ""
    shown = ", ".join(here[:_SHOWN]) + (", ..." if len(here) > _SHOWN else "")
    if exchanged:
        return f"{shown} (the same tensors, in other places)"
    return shown


def differing(
    subject: ReferenceUnderTest, module: nn.Module
) -> tuple[list[str], bool]:
    """Compare the weights of a model with the migrated run, bit for bit.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        As `ReferenceUnderTest.migrated` gave it in float64.

    Returns
    -------
    names : list of str
        Tensors of the model that the run has otherwise under this name.
    exchanged : bool
        Whether the run has the same tensors all the same, as a multiset.
    """
    given = subject.migrated.state_dict
    loaded = module.state_dict()
    names = [
        name
        for name, tensor in loaded.items()
        if name in given and not _equal(tensor, given[name])
    ]
    same = Counter(map(_bits, loaded.values())) == Counter(
        map(_bits, given.values())
    )
    return names, bool(names) and same


def _equal(loaded: Tensor, given: Tensor) -> bool:
    # Cast as the model was: a run may keep float32 buffers that were added.
    given = given.to(loaded.device, loaded.dtype)
    return loaded.shape == given.shape and torch.equal(loaded, given)


def _bits(tensor: Tensor) -> tuple[tuple[int, ...], bytes]:
    values = tensor.detach().cpu().double().contiguous()
    return tuple(tensor.shape), values.numpy().tobytes()
