"""Weights that are drawn anew, so that they show."""

import pytest
import torch
from torch import nn

from pytest_nlam_compat.recording.runs import strengthen


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(200, 100), nn.LayerNorm(100))


def drawn(model, seed=0):
    strengthen(model, torch.Generator().manual_seed(seed))
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_matrices_are_larger_than_the_initialiser_made_them(model):
    before = model[0].weight.detach().square().mean().sqrt().item()
    after = drawn(model)["0.weight"]
    assert after.square().mean().sqrt() == pytest.approx(2.2 * before, rel=0.02)
    # Gaussian, where the initialiser is uniform.
    assert after.abs().max() > 3 * after.std()


def test_biases_are_no_longer_small(model):
    found = drawn(model)
    for name in ("0.bias", "1.bias"):
        assert found[name].std() == pytest.approx(0.3, rel=0.25)


def test_layer_norms_scale_by_one_to_two(model):
    found = drawn(model)["1.weight"]
    assert found.min() >= 1
    assert found.max() <= 2
    assert found.std() > 0.1


def test_the_generator_decides(model):
    initial = {name: p.clone() for name, p in model.state_dict().items()}
    first = drawn(model)
    for seed, equal in ((0, True), (1, False)):
        model.load_state_dict(initial)
        torch.manual_seed(seed + 5)
        again = drawn(model, seed)
        assert all(torch.equal(again[n], first[n]) for n in first) is equal


def test_parameters_stay_parameters(model):
    drawn(model)
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
