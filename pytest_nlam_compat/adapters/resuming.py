"""One further step of training, from a restored optimizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pytest_nlam_compat.adapters.base import Adapter
from pytest_nlam_compat.adapters.preparing import Batch
from pytest_nlam_compat.errors import CompatError


def resume(
    adapter: Adapter,
    module: nn.Module,
    optimizer_state: dict[str, Any],
    batch: Batch,
) -> tuple[float, dict[str, Tensor]]:
    """Take one more optimizer step from a restored optimizer.

    Parameters
    ----------
    adapter : Adapter
    module : torch.nn.Module
        Weights of the checkpoint; changed.
    optimizer_state : dict
        ``optimizer_states[0]`` of the checkpoint; left as it is.
    batch : tuple of Tensor

    Returns
    -------
    loss : float
        Before the step.
    parameters : dict of str to Tensor
        After it, by name.

    Raises
    ------
    CompatError
        The module configures another number of optimizers than one.
    """
    configured = module.configure_optimizers()  # type: ignore[operator]
    optimizer = _only_one(configured)
    # torch takes the tensors as they are, and the step changes them in place.
    optimizer.load_state_dict(copy.deepcopy(optimizer_state))
    optimizer.zero_grad()
    loss = adapter.training_loss(module, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    parameters = {
        name: parameter.detach()
        for name, parameter in module.named_parameters()
    }
    return float(loss.detach()), parameters


def _only_one(configured: Any) -> Optimizer:
    """Find the optimizer in what Lightning takes from a module."""
    if isinstance(configured, Mapping):
        found = [configured.get("optimizer")]
    elif not isinstance(configured, list | tuple):
        found = [configured]
    elif configured and isinstance(configured[0], list | tuple):
        found = list(configured[0])  # and then their schedulers
    else:
        found = list(configured)
    if len(found) != 1 or not isinstance(found[0], Optimizer):
        names = ", ".join(type(one).__name__ for one in found)
        raise CompatError(
            "The current code configures another number of optimizers than "
            "one.",
            facts={"configure_optimizers() gave": names or "nothing"},
            remedy="Every release up to now trained with one AdamW: write a "
            "hard break, or go on with one.",
        )
    return found[0]
