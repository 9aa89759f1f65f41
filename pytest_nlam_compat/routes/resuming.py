"""Going on with the training of a migrated run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_nlam_compat.adapters.resuming import resume
from pytest_nlam_compat.migrations import to_checkpoint_dict
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.precision import default_dtype, reproducible
from pytest_nlam_compat.routes.under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.routes.subject import Subject


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


def resumed(subject: Subject) -> Resumed:
    """Restore the migrated optimizer and take one step in float64.

    Parameters
    ----------
    subject : Subject

    Returns
    -------
    Resumed

    Raises
    ------
    CompatError
        Where the migrated optimizer does not belong to the current model, or
        the current code can't train.
    """
    module = copy.deepcopy(subject.migrated(torch.float64))
    before = {
        name: parameter.detach().clone()
        for name, parameter in module.named_parameters()
    }
    names = subject.run.optimizers[0].names
    # Where the current code's own loader has renamed parameters it leaves the
    # optimizer as it is: by position. So it is for a user, and so it is here.
    renamed = len(names) == len(before) and set(names) != set(before)
    state = to_checkpoint_dict(subject.run, None if renamed else list(before))
    batch = subject.reference.batch(torch.float64)
    init, target, forcing, times = (t.to(subject.device) for t in batch)
    noise = ReplayNoise(subject.reference.noise("loss"))
    with code_under_test("A further step of training with the current code"):
        with reproducible(), default_dtype(torch.float64), noise:
            loss, after = resume(
                subject.adapter,
                module,
                state["optimizer_states"][0],
                (init, target, forcing, times),
            )
    old = dict(zip(before, names, strict=True)) if renamed else {}
    return Resumed(
        loss=torch.tensor([loss], dtype=torch.float64),
        updates={
            old.get(name, name): (after[name] - before[name]).cpu()
            for name in before
        },
    )
