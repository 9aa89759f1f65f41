"""Batches in whatever container, and back into it."""

import dataclasses
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from pytest_nlam_compat.adapters.batches import PARTS, like, parts_of
from pytest_nlam_compat.adapters.binding import ApiChangedError

INIT, TARGET = torch.rand(1, 2, 5, 3), torch.rand(1, 1, 5, 3)
FORCING, TIMES = torch.rand(1, 1, 5, 6), torch.tensor([[7]])
BATCH = (INIT, TARGET, FORCING, TIMES)
OTHER = (
    torch.rand(4, 2, 5, 3).double(),
    torch.rand(4, 3, 5, 3).double(),
    torch.rand(4, 3, 5, 6).double(),
    torch.arange(12).reshape(4, 3),
)
Named = namedtuple("Named", PARTS)
Shuffled = namedtuple("Shuffled", ("times", "forcing", "init", "targets"))
Five = namedtuple("Five", (*PARTS[:3], "boundary", "target_times"))


@dataclasses.dataclass(frozen=True)
class Data:
    initial_states: torch.Tensor
    target_states: torch.Tensor
    forcing_features: torch.Tensor
    target_times: torch.Tensor


CONTAINERS = [
    BATCH,
    list(BATCH),
    Named(*BATCH),
    Shuffled(TIMES, FORCING, INIT, TARGET),
    Five(INIT, TARGET, FORCING, torch.zeros_like(FORCING), TIMES),
    (INIT, TARGET, FORCING, torch.empty(1, 1, 5, 0), TIMES),
    dict(zip(PARTS, BATCH, strict=True)),
    Data(*BATCH),
    SimpleNamespace(**dict(zip(PARTS, BATCH, strict=True)), source=None),
]


@pytest.mark.parametrize(
    "container", CONTAINERS, ids=lambda c: type(c).__name__
)
def test_there_and_back(container):
    assert all(a is b for a, b in zip(parts_of(container), BATCH, strict=True))
    made = like(container, OTHER)
    assert type(made) is type(container)
    assert all(a is b for a, b in zip(parts_of(made), OTHER, strict=True))


def test_a_part_of_one_value_has_the_shape_of_its_like():
    template = Five(INIT, TARGET, FORCING, torch.full_like(FORCING, 2.0), TIMES)
    assert torch.equal(
        like(template, OTHER).boundary, 2 * torch.ones(4, 3, 5, 6).double()
    )


def test_a_part_with_data_can_not_be_made_up():
    template = Five(INIT, TARGET, FORCING, torch.rand(1, 1, 5, 6), TIMES)
    with pytest.raises(ApiChangedError, match="further part 'boundary'"):
        like(template, OTHER)


def test_names_that_nobody_knows():
    with pytest.raises(ApiChangedError, match="no init_states") as raised:
        parts_of({"x": INIT, "y": TARGET})
    assert raised.value.facts["found"] == "dict of x, y"
