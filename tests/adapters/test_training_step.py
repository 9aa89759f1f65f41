"""One further optimizer step, and what a module may configure for it."""

import copy

import pytest
import torch
from torch.optim import AdamW

from pytest_nlam_compat.adapters.training_step import (
    learning_rate,
    optimizer_step,
)
from pytest_nlam_compat.errors import CompatError


class Adapter:
    """Has the loss of a module that has but one."""

    def training_loss(self, module, batch):
        return module(batch[0]).square().mean()


class Module(torch.nn.Module):
    def __init__(self, configure):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 2).double()
        self._configure = configure

    def forward(self, inputs):
        return self.layer(inputs)

    def configure_optimizers(self):
        return self._configure(self)


def one(module):
    return AdamW(module.parameters(), lr=0.1)


BATCH = (torch.eye(3).double(), None, None, None)


@pytest.fixture
def trained():
    """Return a module after two steps, and its optimizer's state."""
    module = Module(one)
    optimizer = one(module)
    for _ in range(2):
        optimizer.zero_grad()
        Adapter().training_loss(module, BATCH).backward()
        optimizer.step()
    return module, optimizer.state_dict()


@pytest.mark.parametrize(
    "configure",
    [
        one,
        lambda module: [one(module)],
        lambda module: ([one(module)], ["a scheduler"]),
        lambda module: {"optimizer": one(module), "lr_scheduler": None},
    ],
)
def test_it_goes_on_where_it_was(configure, trained):
    module, state = trained
    other = Module(configure)
    other.load_state_dict(module.state_dict())
    loss, after = optimizer_step(Adapter(), other, state, BATCH)

    # The same with nothing saved in between.
    optimizer = one(module)
    optimizer.load_state_dict(copy.deepcopy(state))
    optimizer.zero_grad()
    expected = Adapter().training_loss(module, BATCH)
    expected.backward()
    optimizer.step()
    assert loss == expected.item()
    assert list(after) == ["layer.weight", "layer.bias"]
    assert torch.equal(after["layer.weight"], module.layer.weight)
    assert not after["layer.weight"].requires_grad


def test_the_state_is_left_as_it_is(trained):
    module, state = trained
    before = copy.deepcopy(state)
    optimizer_step(Adapter(), module, state, BATCH)
    for position, kinds in before["state"].items():
        for kind, tensor in kinds.items():
            assert torch.equal(state["state"][position][kind], tensor)


def test_the_learning_rate_is_that_before_any_schedule():
    def warmed_up(module):
        optimizer = one(module)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.25)
        assert optimizer.param_groups[0]["lr"] == 0.025
        return [optimizer], [schedule]

    assert learning_rate(Module(one)) == 0.1
    assert learning_rate(Module(warmed_up)) == 0.1


@pytest.mark.parametrize(
    ("configure", "found"),
    [
        (lambda module: [one(module), one(module)], "AdamW, AdamW"),
        (lambda module: ([], []), "nothing"),
        (lambda module: None, "NoneType"),
        (lambda module: {"lr_scheduler": 1}, "NoneType"),
    ],
)
def test_more_or_less_than_one_optimizer_is_an_error(configure, found, trained):
    _, state = trained
    with pytest.raises(CompatError) as caught:
        optimizer_step(Adapter(), Module(configure), state, BATCH)
    assert str(caught.value) == (
        "The current code does not configure exactly one optimizer.\n"
        f"  configure_optimizers() returned: {found}\n"
        "All releases so far trained with one AdamW: keep one, or add a "
        "migration with a HardBreak."
    )
