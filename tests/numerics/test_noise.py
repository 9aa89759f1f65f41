"""Noise that is recorded, and given back number by number."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.noise import (
    NoiseInForward,
    RecordNoise,
    ReplayNoise,
)

# Every way of torch to draw four numbers from a normal distribution.
DRAWS = {
    "randn": lambda: torch.randn(2, 2),
    "randn size": lambda: torch.randn(size=(2, 2)),
    "randn_like": lambda: torch.randn_like(torch.empty(2, 2)),
    "normal_": lambda: torch.empty(2, 2).normal_(),
    "normal_ 1 2": lambda: torch.empty(2, 2).normal_(1.0, 2.0),
    "normal_ names": lambda: torch.empty(2, 2).normal_(mean=1.0, std=2.0),
    "normal size": lambda: torch.normal(1.0, 2.0, (2, 2)),
    "normal names": lambda: torch.normal(mean=1.0, std=2.0, size=(2, 2)),
    "normal tensors": lambda: torch.normal(
        torch.full((2, 2), 1.0), torch.full((2, 2), 2.0)
    ),
    "normal mean": lambda: torch.normal(torch.full((2, 2), 1.0)),
    "normal out": lambda: torch.normal(1, 2, (2, 2), out=torch.empty(2, 2)),
    "rsample": lambda: Normal(torch.ones(2, 2), 2.0).rsample(),
    "sample": lambda: Normal(torch.ones(2, 2), 2.0).sample(),
}
# Mean and standard deviation that they ask for.
MOMENTS = dict.fromkeys(DRAWS, (1.0, 2.0)) | {
    "randn": (0.0, 1.0),
    "randn size": (0.0, 1.0),
    "randn_like": (0.0, 1.0),
    "normal_": (0.0, 1.0),
    "normal mean": (1.0, 1.0),
}


def recording(seed=0):
    return RecordNoise(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_is_the_noise_with_its_mean_and_deviation(name):
    mean, std = MOMENTS[name]
    with recording() as noise:
        drawn = DRAWS[name]()
    assert [tuple(each.shape) for each in noise.drawn] == [(2, 2)]
    assert torch.equal(drawn, mean + std * noise.drawn[0])


@pytest.mark.parametrize("name", DRAWS)
def test_replayed_it_is_the_same(name):
    with recording() as noise:
        first = DRAWS[name]()
    torch.manual_seed(1)
    with ReplayNoise(noise.drawn):
        assert torch.equal(DRAWS[name](), first)


def test_the_noise_is_standard_and_has_few_bits():
    with recording() as noise:
        torch.randn(100, 100)
    (drawn,) = noise.drawn
    assert drawn.dtype is torch.float32
    assert torch.equal((drawn * 16).round(), drawn * 16)
    assert drawn.mean().abs() < 0.05
    assert 0.95 < drawn.std() < 1.05


def test_the_generator_decides_and_no_global_seed():
    drawn = []
    for seed, global_seed in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(global_seed)
        with recording(seed) as noise:
            torch.randn(9)
        drawn.append(noise.drawn[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=5))
def test_draws_come_back_in_order_in_either_precision(shapes):
    with recording() as noise:
        first = [torch.randn(shape) for shape in shapes]
    with ReplayNoise(noise.drawn):
        again = [torch.randn(shape).double() for shape in shapes]
    with ReplayNoise(noise.drawn):
        double = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    for one, two, three in zip(first, again, double, strict=True):
        assert one.dtype is torch.float32
        assert three.dtype is torch.float64
        assert torch.equal(one.double(), two)
        assert torch.equal(two, three)


def test_what_is_drawn_may_be_changed():
    with recording() as noise:
        first = torch.randn(3)
        kept = first.clone()
        first.mul_(2)
    assert torch.equal(noise.drawn[0], kept)
    for _ in range(2):
        with ReplayNoise(noise.drawn):
            drawn = torch.randn(3)
            assert torch.equal(drawn, kept)
            drawn.zero_()


def test_a_draw_that_wants_gradients_has_them():
    with recording() as noise:
        drawn = torch.randn(3, requires_grad=True)
    assert drawn.requires_grad
    assert torch.equal(drawn.detach(), noise.drawn[0])


def test_through_rsample_gradients_flow():
    mean = torch.zeros(3, requires_grad=True)
    std = torch.ones(3, requires_grad=True)
    with recording() as noise:
        Normal(mean, std).rsample().sum().backward()
    assert torch.equal(mean.grad, torch.ones(3))
    assert torch.equal(std.grad, noise.drawn[0])


@pytest.mark.parametrize("mode", [recording, lambda: ReplayNoise([])])
def test_nothing_else_is_touched(mode):
    x = torch.linspace(-1, 1, 12).reshape(3, 4)
    layer = torch.nn.Linear(4, 4)

    def work():
        generator = torch.Generator().manual_seed(7)
        torch.manual_seed(7)
        return [
            layer(x),
            x @ x.t(),
            torch.nn.functional.layer_norm(x, (4,)),
            torch.cat([x, x], dim=-1)[..., ::2],
            torch.rand(3),
            torch.empty(3).uniform_(),
            torch.randperm(5, generator=generator),
            torch.nn.functional.dropout(x, 0.5),
        ]

    expected = work()
    with mode() as noise:
        found = work()
    assert all(map(torch.equal, found, expected))
    assert not getattr(noise, "drawn", [])


def test_outside_of_the_block_torch_draws_itself():
    with recording() as noise:
        pass
    torch.randn(3)
    assert noise.drawn == []


def test_too_many_draws():
    with pytest.raises(CompatError) as raised, ReplayNoise([torch.ones(2)]):
        _ = torch.randn(2), torch.randn(3, 4)
    assert str(raised.value) == (
        "The model draws more noise than its release did.\n"
        "  expected: no further draw\n"
        "  found: (3, 4)\n"
        "Find the new draw: it changes the distribution of the outputs."
    )


def test_a_draw_of_another_shape():
    with pytest.raises(CompatError) as raised, ReplayNoise([torch.ones(2, 3)]):
        torch.randn(3, 2)
    assert str(raised.value) == (
        "The model draws noise of another shape than its release.\n"
        "  expected: (2, 3)\n"
        "  found: (3, 2)\n"
        "Find the draw that changed: the latent variable has another shape."
    )


def test_too_few_draws():
    drawn = [torch.ones(2), torch.ones(2, 3), torch.ones(4)]
    with pytest.raises(CompatError) as raised, ReplayNoise(drawn):
        torch.randn(2)
    assert str(raised.value) == (
        "The model draws less noise than its release did.\n"
        "  not drawn: [(2, 3), (4,)]\n"
        "Find the draw that is gone: an output is no longer sampled."
    )


def test_another_error_is_not_hidden_by_what_is_left():
    with pytest.raises(ZeroDivisionError), ReplayNoise([torch.ones(2)]):
        raise ZeroDivisionError


class Step(nn.Module):
    """Adds a draw, and fails where it is told to."""

    def forward(self, x):
        if x.isnan().any():
            raise ValueError("told to")
        return x + torch.randn_like(x)


class Rollout(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = Step()

    def forward(self, x):
        return self.step(self.step(x))


@pytest.fixture
def rollout():
    noise = [torch.tensor([1.0]), torch.tensor([20.0])]
    module = Rollout()
    NoiseInForward(module, noise)
    return module


def test_each_forward_pass_replays_from_the_beginning(rollout):
    zero = torch.zeros(1)
    assert [rollout(zero).item() for _ in range(2)] == [21.0, 21.0]
    # A single step is a call of its own, and may leave noise over.
    assert [rollout.step(zero).item() for _ in range(2)] == [1.0, 1.0]
    assert rollout(zero).item() == 21.0


def test_outside_of_a_forward_pass_nothing_is_replayed(rollout):
    rollout(torch.zeros(1))
    torch.manual_seed(0)
    expected = torch.randn(5)
    torch.manual_seed(0)
    assert torch.equal(torch.randn(5), expected)


def test_replaying_ends_where_a_forward_pass_fails(rollout):
    with pytest.raises(ValueError, match="told to"):
        rollout(torch.tensor([float("nan")]))
    test_outside_of_a_forward_pass_nothing_is_replayed(rollout)
    assert rollout(torch.zeros(1)).item() == 21.0


def test_a_draw_more_than_recorded_is_an_error():
    module = Rollout()
    NoiseInForward(module, [torch.tensor([1.0])])
    with pytest.raises(CompatError, match="draws more noise"):
        module(torch.zeros(1))
