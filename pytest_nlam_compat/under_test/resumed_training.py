"""Going on with the training of a migrated run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.resuming import resume
from pytest_nlam_compat.adapters.upstream import upstream_registry
from pytest_nlam_compat.migrations import to_checkpoint_dict
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.precision import default_dtype, reproducible
from pytest_nlam_compat.under_test.code_under_test import code_under_test
from pytest_nlam_compat.under_test.upstream_stamp import upstream_stamp

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class Resumed:
    """What one further step of training made of a migrated run.

    Attributes
    ----------
    loss : Tensor
        (1,) float64, before the step.
    updates : dict of str to Tensor
        float64, what the step added to each parameter; by its name in the
        migrated run, which the current code's own loader may have changed.
    """

    loss: Tensor
    updates: dict[str, Tensor]


def resumed(subject: ReferenceUnderTest) -> Resumed:
    """Restore the migrated optimizer and take one step in float64.

    Parameters
    ----------
    subject : ReferenceUnderTest

    Returns
    -------
    Resumed

    Raises
    ------
    CompatError
        Where the migrated optimizer does not belong to the current model, or
        the current code can't train.
    """
    module, checkpoint = _restored(subject)
    before = {
        name: parameter.detach().clone()
        for name, parameter in module.named_parameters()
    }
    batch = subject.reference.batch(torch.float64)
    init, target, forcing, times = (t.to(subject.device) for t in batch)
    noise = ReplayNoise(subject.reference.noise("loss"))
    with code_under_test("A further step of training with the current code"):
        with reproducible(), default_dtype(torch.float64), noise:
            loss, after = resume(
                subject.adapter,
                module,
                checkpoint["optimizer_states"][0],
                (init, target, forcing, times),
            )
    names = subject.migrated.optimizers[0].names
    # Those that the current code's own loader has renamed: by position.
    pairs = zip(before, names, strict=True)
    old = {new: name for new, name in pairs if new not in names}
    return Resumed(
        loss=torch.tensor([loss], dtype=torch.float64),
        updates={
            old.get(name, name): (after[name] - before[name]).cpu()
            for name in before
        },
    )


def _restored(subject: ReferenceUnderTest) -> tuple[nn.Module, dict[str, Any]]:
    """Load a migrated run with its optimizer, as for going on with training.

    Its parameters are numbered as in the file that it would be written to:
    an optimizer knows nothing of names. The current code's own loader sees
    all of it, and gives the optimizer up unless it is told to restore it.
    """
    module = copy.deepcopy(subject.migrated_model(torch.float64))
    if hasattr(module, "restore_opt"):
        module.restore_opt = True  # type: ignore[assignment]
    checkpoint = copy.deepcopy(to_checkpoint_dict(subject.migrated))
    checkpoint |= upstream_stamp(subject.float64, upstream_registry())
    with code_under_test("Loading the migrated run with its optimizer"):
        subject.adapter.load_strictly(module, checkpoint)
    return module, checkpoint
