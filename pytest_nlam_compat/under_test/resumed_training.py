"""Resume the training of a migrated run for one step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.training_step import (
    learning_rate,
    optimizer_step,
)
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.torch_settings import (
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class ResumedStep:
    """One more training step of a migrated run.

    Attributes
    ----------
    rate : float
        Learning rate that the current code configures: without ``restore_opt``
        training goes on with it, whatever the file says.
    loss : Tensor
        (1,) float64, before the step.
    updates : dict of str to Tensor
        float64, what the step added to each parameter.
    module : torch.nn.Module
        The model that took it; nobody else has it.
    """

    rate: float
    loss: Tensor
    updates: dict[str, Tensor]
    module: nn.Module


def resume(subject: ReferenceUnderTest) -> ResumedStep:
    """Restore the migrated optimizer and take one step in float64.

    Raises
    ------
    CompatError
        The migrated optimizer does not fit the current model, or the current
        code can't train.
    """
    module = subject.built(torch.float64).to(subject.device)
    # Otherwise the current code's own loader drops the optimizer.
    if hasattr(module, "restore_opt"):
        module.restore_opt = True  # type: ignore[assignment]
    # Parameters are numbered as in the file that the run would be written to:
    # an optimizer has no names.
    checkpoint = _copied(subject.migrated_checkpoint())
    with code_under_test("Loading the migrated run with its optimizer"):
        subject.adapter.load_strictly(module, checkpoint)
    before = {
        name: parameter.detach().clone()
        for name, parameter in module.named_parameters()
    }
    noise = ReplayNoise(subject.reference.noise("loss"))
    with code_under_test("One more training step of the current code"):
        rate = learning_rate(module)
        with reproducible(), default_dtype(torch.float64), noise:
            loss, after = optimizer_step(
                subject.adapter,
                module,
                checkpoint["optimizer_states"][0],
                subject.recorded_batch(torch.float64),
            )
    return ResumedStep(
        rate=rate,
        loss=torch.tensor([loss], dtype=torch.float64),
        updates={name: (after[name] - before[name]).cpu() for name in before},
        module=module,
    )


def loaded_parameters(
    subject: ReferenceUnderTest,
    module: nn.Module,
    weights: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return what the current code's own loader makes of migrated weights.

    It may rename and move them, where neural-lam converts older files itself.
    They take the place of those of `module`, which is not built again.
    """
    checkpoint = _copied(subject.migrated_checkpoint())
    checkpoint["state_dict"] = {n: t.clone() for n, t in weights.items()}
    with code_under_test("Loading the migrated run"):
        subject.adapter.load_strictly(module, checkpoint)
    return {n: p.detach().cpu() for n, p in module.named_parameters()}


def _copied(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Copy a checkpoint with its tensors: loaders may change them in place."""
    tensors = [
        *checkpoint["state_dict"].values(),
        *(
            tensor
            for optimizer in checkpoint["optimizer_states"]
            for moments in optimizer["state"].values()
            for tensor in moments.values()
        ),
    ]
    # A tensor's own deep copy takes 20 times as long.
    return copy.deepcopy(checkpoint, {id(t): t.clone() for t in tensors})
