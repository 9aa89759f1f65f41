"""Two real optimizer steps with the release's own classes."""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from pytest_nlam_compat.adapters.base import Adapter

OPTIMIZER_STEPS = 2
# Gaussian weights this much larger than the initialiser's show everywhere;
# near-initial ones hide behind rounding.
_WEIGHT_GAIN = 2.2
_BIAS_STD = 0.3


def strengthen(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew, large enough to show in the outputs.

    Parameters
    ----------
    module : torch.nn.Module
    generator : torch.Generator
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            random = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                size = parameter.square().mean().sqrt()
                parameter.copy_(_WEIGHT_GAIN * size * random)
            elif name.endswith("weight"):  # of a LayerNorm
                parameter.copy_(1.0 + random.abs().clamp(max=1.0))
            else:
                parameter.copy_(_BIAS_STD * random)


def train(
    adapter: Adapter,
    module: nn.Module,
    datastore: Any,
    args: Namespace,
    samples: int,
    ar_steps: int,
    checkpoint: Path,
) -> None:
    """Train for two steps and save as the release saves.

    Parameters
    ----------
    adapter : Adapter
    module : torch.nn.Module
        A LightningModule, trained in place.
    datastore : StoredDatastore
    args : argparse.Namespace
    samples : int
        Batch size; an epoch is one batch.
    ar_steps : int
    checkpoint : pathlib.Path
        Written by ``Trainer.save_checkpoint``.
    """
    dataset = adapter.dataset(datastore, args, ar_steps)
    first = torch.utils.data.Subset(dataset, range(samples))
    loader = torch.utils.data.DataLoader(first, batch_size=samples)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # About workers, logging and checkpointing, none of which is wanted.
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=OPTIMIZER_STEPS,
            accelerator="cpu",
            devices=1,
            deterministic=True,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            default_root_dir=str(checkpoint.parent),
        )
        trainer.fit(module, train_dataloaders=loader)
        assert trainer.global_step == OPTIMIZER_STEPS
        trainer.save_checkpoint(checkpoint)
