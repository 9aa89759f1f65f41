"""A Trainer for a training step that asks for one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


@contextmanager
def trainer_attached(module: nn.Module) -> Iterator[None]:
    """Attach a Trainer to a LightningModule, as in training.

    Parameters
    ----------
    module : torch.nn.Module
        Any other is left as it is.
    """
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
            # About GPUs that are there and not used.
            warnings.simplefilter("ignore")
            trainer = Trainer(
                accelerator="cpu",
                devices=1,
                barebones=True,
                # Else what a batch system says of its tasks is taken up.
                plugins=[LightningEnvironment()],
            )
    finally:
        logger.setLevel(level)
    trainer.training = True
    return trainer
