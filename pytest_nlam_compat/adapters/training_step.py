"""A training step outside of a training run, and its optimizer."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from pytest_nlam_compat.adapters.adapter import Adapter
    from pytest_nlam_compat.adapters.batches import Batch


def optimizer_step(
    adapter: Adapter,
    module: nn.Module,
    optimizer_state: dict[str, Any],
    batch: Batch,
) -> tuple[float, dict[str, Tensor]]:
    """Take one more step with a restored optimizer.

    Parameters
    ----------
    module : torch.nn.Module
        With the weights of the checkpoint; changed.
    optimizer_state : dict
        ``optimizer_states[0]`` of the checkpoint; not changed.

    Returns
    -------
    loss : float
        Before the step.
    parameters : dict of str to Tensor
        After it, by name.

    Raises
    ------
    CompatError
        The module does not configure exactly one optimizer.
    """
    configured = module.configure_optimizers()  # type: ignore[operator]
    optimizer = _only_optimizer(configured)
    # torch uses the tensors as they are, and the step changes them in place.
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


def _only_optimizer(configured: Any) -> Optimizer:
    """Find the optimizer in whatever form Lightning accepts."""
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
            "The current code does not configure exactly one optimizer.",
            facts={"configure_optimizers() returned": names or "nothing"},
            remedy="All releases so far trained with one AdamW: keep one, or "
            "add a migration with a HardBreak.",
        )
    return found[0]


@contextmanager
def trainer_attached(module: nn.Module) -> Iterator[None]:
    """Attach a Trainer to a LightningModule, as in training."""
    from pytorch_lightning import LightningModule

    if not isinstance(module, LightningModule):
        yield
        return
    module.trainer = _trainer()
    try:
        yield
    finally:
        module.trainer = None


@cache
def _trainer() -> Trainer:
    """Make a Trainer that logs, writes and prints nothing."""
    from pytorch_lightning import Trainer
    from pytorch_lightning.plugins.environments import LightningEnvironment

    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # About unused GPUs.
            warnings.simplefilter("ignore")
            trainer = Trainer(
                accelerator="cpu",
                devices=1,
                barebones=True,
                # Otherwise Lightning reads the variables of a batch system.
                plugins=[LightningEnvironment()],
            )
    finally:
        logger.setLevel(level)
    trainer.training = True
    return trainer
