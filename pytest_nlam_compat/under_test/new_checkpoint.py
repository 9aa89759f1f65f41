"""A checkpoint that the current code saves, and loads again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from pytest_nlam_compat.adapters.model_arguments import forcing_window
from pytest_nlam_compat.adapters.training_step import train_and_save
from pytest_nlam_compat.numerics.torch_settings import reproducible
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class NewCheckpoint:
    """A file that Lightning has saved, and what was in memory then.

    Attributes
    ----------
    path : pathlib.Path
    module : torch.nn.Module
        On the CPU, in float32, as it is trained.
    optimizer : dict
        State of its optimizer.
    """

    path: Path
    module: nn.Module
    optimizer: dict[str, Any]


def save_new(subject: ReferenceUnderTest, folder: Path) -> NewCheckpoint:
    """Train the migrated model for one step, and save it as Lightning does.

    With the current code's own data module, so that its hooks are called.

    Raises
    ------
    CompatError
        The current code can't train, or can't save.
    """
    module = subject.new_migrated_model(torch.float32)
    path = folder / "new.ckpt"
    with (
        code_under_test("Training and saving with the current code"),
        reproducible(),
        # What a model draws here is of no account: both sides have its result.
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(0)
        trainer = train_and_save(module, _data(subject), 1, path)
        optimizer = trainer.optimizers[0].state_dict()
    return NewCheckpoint(path, module, optimizer)


def _data(subject: ReferenceUnderTest) -> Any:
    """Return the data module, with one batch and no worker processes."""
    description = subject.reference.description
    data = subject.adapter.data_module(
        subject.datastore(torch.float32),
        forcing_window(subject.hyper_parameters, subject.predictor),
        description["ar_steps"],
    )
    own_loader = data.train_dataloader
    samples = description["samples"]

    def train_dataloader() -> DataLoader[Any]:
        loader = own_loader()
        return DataLoader(
            Subset(loader.dataset, range(samples)),
            batch_size=samples,
            collate_fn=loader.collate_fn,
        )

    data.train_dataloader = train_dataloader
    return data
