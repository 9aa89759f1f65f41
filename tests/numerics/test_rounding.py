"""An ensemble that measures how strongly a model amplifies rounding."""

import pytest
import torch
from torch import nn

from pytest_nlam_compat.numerics.rounding import MEMBERS, rounding_effect

ROUNDOFF = 2.0**-24
BATCH = (torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([[1], [2]]))


class Model(nn.Module):
    """A weight times the input, over what little is left of a difference."""

    def __init__(self, left):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0]).double())
        self.left = left

    def forward(self, x):
        return self.weight * x / self.left


def effect(model, runs=None):
    def run(module, batch):
        if runs is not None:
            runs.append((module.weight.item(), *batch))
        return {"prediction": module(batch[0])}

    return rounding_effect(model, BATCH, run)["prediction"]


def test_it_is_that_of_weight_and_input_over_the_spread():
    # Both are moved by one roundoff, some time in the same direction.
    assert effect(Model(1.0)).item() == pytest.approx(2 * ROUNDOFF, rel=1e-6)
    # Relative to the spread, a constant factor is nothing.
    assert effect(Model(1e-3)).item() == pytest.approx(2 * ROUNDOFF, rel=1e-6)


def test_cancellation_amplifies_it():
    class Cancelling(Model):
        def forward(self, x):
            return 1000 * self.weight - 3000 + x

    assert effect(Cancelling(1.0)).item() == pytest.approx(
        3001 * ROUNDOFF, rel=1e-3
    )


def test_members_are_moved_and_the_model_is_not():
    runs = []
    model = Model(1.0)
    first = effect(model, runs)
    assert len(runs) == 1 + MEMBERS
    weights = {round((run[0] / 3 - 1) / ROUNDOFF, 3) for run in runs}
    assert weights == {-1.0, 0.0, 1.0}
    # What does not float is an index, or a time.
    assert all(torch.equal(run[2], BATCH[1]) for run in runs)
    assert model.weight.item() == 3.0
    assert torch.equal(effect(model), first)


def test_global_seed_does_not_matter():
    torch.manual_seed(0)
    first = effect(Model(1.0))
    torch.manual_seed(1)
    assert torch.equal(effect(Model(1.0)), first)


def test_a_member_that_overflows_allows_nothing():
    class Overflowing(Model):
        def forward(self, x):
            return torch.where(self.weight > 3, torch.inf, x)

    assert effect(Overflowing(1.0)).item() == 0
