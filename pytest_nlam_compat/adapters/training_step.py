"""Training steps, outside of a training run and in one of Lightning's."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from pytest_nlam_compat.adapters.silence import silenced
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
    optimizer = configured_optimizer(module)
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


def learning_rate(module: nn.Module) -> float:
    """Return the rate that training starts with, before any schedule."""
    group = configured_optimizer(module).param_groups[0]
    return float(group.get("initial_lr", group["lr"]))


def configured_optimizer(module: nn.Module) -> Optimizer:
    """Return a module's new optimizer; CompatError unless there is one.

    It may be in whatever form Lightning accepts.
    """
    configured: Any = module.configure_optimizers()  # type: ignore[operator]
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


def transfer_hook(
    data: Any, module: nn.Module, name: str, *arguments: Any
) -> Any:
    """Call a hook as Lightning does: that of the data module, if it has one."""
    from pytorch_lightning.utilities.model_helpers import is_overridden

    owner: Any = data if is_overridden(name, data) else module
    return getattr(owner, name)(*arguments)


def train_and_save(module: nn.Module, data: Any, steps: int, path: Path) -> Any:
    """Train in place with Lightning's Trainer, and save as it saves.

    For each of the optimizer's steps, one batch of `data` is used: a
    DataLoader or LightningDataModule. Returns the Trainer as it was when it
    saved.
    """
    trainer = _quiet_trainer(
        max_epochs=steps,
        limit_train_batches=1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        deterministic=True,
        logger=False,
        default_root_dir=str(path.parent),
    )
    with silenced():
        trainer.fit(module, data)
        trainer.save_checkpoint(path)
    assert trainer.global_step == steps
    return trainer


def evaluate_once(module: nn.Module, batch: Any) -> None:
    """Validate and test with Lightning's Trainer, on one batch.

    Without drawing and writing, but with all that neural-lam does for them.
    The steps that a run logs may be more than those of the rollout, which is
    as long as the reference's.

    The batch is as it leaves the data loader, in the precision of the module.
    """
    from matplotlib.figure import Figure

    vis = importlib.import_module("neural_lam.vis")
    plots = [name for name in vars(vis) if name.startswith("plot")]
    undrawn = dict.fromkeys(plots, lambda *_, **__: Figure())
    one: Any = [0]
    loader: DataLoader[Any] = DataLoader(one, collate_fn=lambda _: batch)
    with (
        silenced(),
        mock.patch.dict(vars(vis), undrawn),
        mock.patch.object(Figure, "savefig"),
        mock.patch("torch.save"),
        mock.patch("numpy.savetxt"),
        mock.patch("os.makedirs"),
        _logged_steps(module),
    ):
        trainer = _evaluating(next(module.parameters()).device.type)
        try:
            for evaluate in (trainer.validate, trainer.test):
                evaluate(module, loader, verbose=False)
        finally:
            module.trainer = None  # type: ignore[assignment]


@contextmanager
def _logged_steps(module: nn.Module) -> Iterator[None]:
    """Log the first step of a rollout alone, where steps are chosen."""
    args = getattr(module, "args", None)
    hparams: Any = module.hparams
    holders = [
        holder
        for holder in (hparams, hparams.get("args"), args)
        if holder is not None and hasattr(holder, "val_steps_to_log")
    ]
    kept = [holder.val_steps_to_log for holder in holders]
    for holder in holders:
        holder.val_steps_to_log = [1]
    try:
        yield
    finally:
        for holder, steps in zip(holders, kept, strict=True):
            holder.val_steps_to_log = steps


@cache
def _evaluating(device: str) -> Trainer:
    from pytorch_lightning.loggers.logger import DummyLogger

    class Nowhere(DummyLogger):  # type: ignore[misc]
        """Logs nothing, to a folder that is never made."""

        save_dir = "nowhere"

        def log_image(self, **_: Any) -> None:
            """Log no image."""

    return _quiet_trainer(
        accelerator=device,
        logger=Nowhere(),
    )


@cache
def _trainer() -> Trainer:
    """Make a Trainer that logs, writes and prints nothing."""
    trainer = _quiet_trainer(barebones=True)
    trainer.training = True
    return trainer


def _quiet_trainer(accelerator: str = "cpu", **options: Any) -> Trainer:
    from pytorch_lightning import Trainer
    from pytorch_lightning.plugins.environments import LightningEnvironment

    with silenced():
        return Trainer(
            accelerator=accelerator,
            devices=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # Otherwise Lightning reads the variables of a batch system.
            plugins=[LightningEnvironment()],
            **options,
        )
