"""The gate: figures of what shows, and what does not pass."""

import math

import pytest
import torch
from torch import nn

from pytest_nlam_compat.numerics.comparison import spread
from pytest_nlam_compat.numerics.tolerances import FLOAT32, FLOAT64
from pytest_nlam_compat.recording.strength import (
    TIMES_FLOAT32_NOISE,
    TIMES_FLOAT64_TOLERANCE,
    Strength,
    measure,
    required,
)


class Model(nn.Module):
    """An embedder of the grid, a layer, and one that nothing depends on."""

    def __init__(self, blind=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.grid_embedder = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.head = nn.Linear(4, 2)
        self.blind = nn.Linear(4, 2, bias=False)
        self.factor = blind

    def forward(self, x):
        hidden = self.grid_embedder(x)
        return self.head(hidden) + self.factor * self.blind(hidden)


INPUTS = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3).sin()


def measured(model, noise=1e-9, suspects=(), runs=None):
    def run():
        if runs is not None:
            runs.append({n: p.detach().clone() for n, p in names.items()})
        return {"prediction": model(INPUTS).detach()}

    names = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(0)
    return measure(model, run, noise, generator, suspects)


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (0.0, 1000 * FLOAT64.relative),
        (1e-9, 1000 * FLOAT64.relative),
        (1e-3, 20 * 1e-3),
    ],
)
def test_what_is_required(noise, expected):
    assert required(noise) == expected


def test_the_gate_is_wider_than_what_a_check_allows():
    assert TIMES_FLOAT64_TOLERANCE == 1000
    assert TIMES_FLOAT32_NOISE == 20
    # tests/kernels does the same with what the ensemble allows.
    assert FLOAT32.noise <= TIMES_FLOAT32_NOISE / 2


def test_every_parameter_and_column_has_a_figure():
    figures = measured(Model(blind=1.0).double())
    assert list(figures.parameters) == [
        "grid_embedder.0.weight",
        "grid_embedder.0.bias",
        "head.weight",
        "head.bias",
        "blind.weight",
    ]
    assert list(figures.columns) == [
        f"grid_embedder.0.weight[:, {column}]" for column in range(3)
    ]
    assert figures.required == required(1e-9)
    assert figures.weak == {}


@pytest.mark.parametrize(
    ("name", "embeds"),
    [
        ("grid_embedder.0.weight", True),
        ("forecaster.predictor.grid_embedder.0.weight", True),
        ("forecaster.predictor.grid_prev_embedder.0.weight", True),
        ("grid_embedder.0.bias", False),
        ("grid_embedder.2.weight", False),
        ("mesh_embedder.0.weight", False),
        ("weight", False),
    ],
)
def test_inputs_are_read_by_embedders_of_the_grid(name, embeds):
    from pytest_nlam_compat.recording.strength import _embeds_grid

    assert _embeds_grid(name) is embeds


def test_a_figure_is_the_largest_change_over_the_spread():
    model = Model(blind=1.0).double()
    figures = measured(model)
    golden = model(INPUTS).detach()
    weight = model.grid_embedder[0].weight
    with torch.no_grad():
        weight[:, 1] *= 1.1
        moved = model(INPUTS)
    effect = ((moved - golden).abs() / spread(golden)).max().item()
    column = figures.columns["grid_embedder.0.weight[:, 1]"]
    assert column == pytest.approx(effect, rel=1e-9)


def test_one_parameter_is_moved_at_a_time_and_put_back():
    model = Model(blind=1.0).double()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    runs = []
    figures = measured(model, runs=runs)
    assert len(runs) == 1 + len(figures.parameters) + len(figures.columns)
    for run in runs[1:]:
        moved = [n for n in before if not torch.equal(run[n], before[n])]
        assert len(moved) == 1
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_it_is_put_back_when_a_run_fails():
    model = Model().double()
    before = model.grid_embedder[0].weight.detach().clone()
    results = iter([{"prediction": model(INPUTS).detach()}])

    with pytest.raises(StopIteration):
        measure(model, lambda: next(results), 0.0, torch.Generator(), ())
    assert torch.equal(model.grid_embedder[0].weight, before)


def test_what_does_not_show_is_weak():
    assert measured(Model(blind=0.0).double()).weak == {"blind.weight": 0.0}
    (weak,) = measured(Model(blind=1e-6).double()).weak.values()
    assert 0 < weak < 1e-6


def test_more_noise_requires_a_larger_effect():
    model = Model(blind=1.0).double()
    least = min(measured(model).parameters.values())
    assert measured(model, noise=least / 20 / 1.01).weak == {}
    assert measured(model, noise=least / 20 * 1.01).weak != {}


def test_suspects_are_first_and_the_first_weak_one_is_the_last():
    figures = measured(Model().double(), suspects=["blind.weight"])
    assert list(figures.parameters) == ["blind.weight"]
    assert figures.columns == {}
    # One that has become strong is not measured twice.
    figures = measured(Model(blind=1.0).double(), suspects=["blind.weight"])
    assert next(iter(figures.parameters)) == "blind.weight"
    assert len(figures.parameters) == 5


def test_a_weak_column_is_weak():
    model = Model(blind=1.0).double()
    with torch.no_grad():
        model.grid_embedder[0].weight[:, 2] = 0
    assert measured(model).weak == {"grid_embedder.0.weight[:, 2]": 0.0}


def test_a_model_that_returns_nan_does_not_pass():
    model = Model(blind=1.0).double()
    with torch.no_grad():
        model.head.bias[0] = math.nan
    figures = measured(model, noise=math.nan)
    assert list(figures.weak) == ["grid_embedder.0.weight"]
    assert Strength({"a": math.nan, "b": 1.0}, {}, 0.5).weak.keys() == {"a"}
