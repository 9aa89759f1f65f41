"""The spread of a variable, and where an output differs most."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nlam_compat.numerics.comparison import (
    Difference,
    compare,
    spread,
    worst,
)

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32)


def random(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_spread_is_that_of_each_variable_over_all_else():
    golden = torch.tensor([[[1.0, 10.0], [3.0, 10.0]], [[1.0, 30.0], [3, 30]]])
    assert spread(golden).tolist() == [1.0, 10.0]
    assert spread(golden).dtype is torch.float64


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 5.0, 5.0], 5.0),
        ([-0.25, -0.25], 0.25),
        ([0.0, 0.0], 1.0),
        ([7.0], 7.0),
        # Less than float32 can resolve, and just more.
        ([1e6, 1e6 + 1], 1e6 + 1),
        ([1e6, 1e6 + 4], 2.0),
    ],
)
def test_a_constant_has_the_spread_of_its_magnitude(values, expected):
    golden = torch.tensor(values, dtype=torch.float64)[:, None]
    assert spread(golden).item() == expected


@settings(deadline=None)
@given(SHAPES, SEEDS, st.integers(-8, 8))
def test_the_spread_follows_the_unit(shape, seed, exponent):
    golden = random(shape, seed)
    scaled = spread(-(2.0**exponent) * golden)
    assert torch.equal(scaled, 2.0**exponent * spread(golden))


@settings(deadline=None)
@given(SHAPES, SEEDS)
def test_the_spread_of_anything_is_a_positive_scale(shape, seed):
    # With entries that repeat, and columns that are constant or zero.
    golden = random(shape, seed).round()
    assert spread(golden).shape == shape[-1:]
    assert (spread(golden) > 0).all()


def test_the_worst_entry_is_told_with_its_place():
    golden = random((2, 3, 5, 2))
    allowed = torch.tensor([0.5, 0.25], dtype=torch.float64)
    obtained = golden.clone()
    obtained[0, 0, 0, 0] += 0.75  # one and a half times what is allowed
    obtained[1, 2, 4, 1] -= 0.5  # less, and twice what is allowed
    found = compare(
        obtained, golden, allowed, output="prediction", variables=["t", "q"]
    )
    assert found == Difference(
        output="prediction",
        variable="q",
        index=(1, 2, 4),
        obtained=obtained[1, 2, 4, 1].item(),
        expected=golden[1, 2, 4, 1].item(),
        allowed=0.25,
        relative=pytest.approx(0.5 / spread(golden)[1].item()),
        share=pytest.approx(2.0),
    )


def test_without_names_a_variable_is_its_index():
    golden = torch.zeros(4, 3)
    obtained = golden.clone()
    obtained[2, 1] = 1.0
    found = compare(obtained, golden, torch.ones(3), output="loss")
    assert (found.output, found.variable, found.index) == ("loss", "1", (2,))


def test_equal_outputs_use_nothing():
    golden = random((2, 3))
    found = compare(golden, golden, torch.full((2, 3)[1:], 1.0), output="a")
    assert (found.share, found.relative) == (0.0, 0.0)


def test_float32_is_compared_in_float64():
    golden = torch.tensor([[1.0], [1.0 + 1e-10]], dtype=torch.float64)
    obtained = torch.tensor([[1.0], [1.0]], dtype=torch.float32)
    found = compare(obtained, golden, torch.tensor([1e-10]), output="a")
    assert found.share == pytest.approx(1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_the_worst(value):
    golden = random((2, 3, 4))
    obtained = golden + 1e6
    obtained[1, 2, 3] = value
    found = compare(obtained, golden, torch.full((4,), 1e-9), output="a")
    assert found.share == math.inf
    assert (found.index, found.variable) == ((1, 2), "3")
    assert str(found.obtained) == str(value)
    assert found.expected == golden[1, 2, 3].item()


def test_an_expected_nan_is_no_agreement():
    golden = torch.tensor([[0.0], [math.nan]])
    found = compare(golden, golden, torch.ones(1), output="a")
    assert found.share == math.inf


def test_another_shape_is_an_error():
    with pytest.raises(
        ValueError, match=r"^pred_std has shape \(2, 3\), "
    ) as e:
        compare(
            torch.zeros(2, 3),
            torch.zeros(1, 3),
            torch.ones(3),
            output="pred_std",
        )
    assert str(e.value) == "pred_std has shape (2, 3), its golden (1, 3)"


@settings(deadline=None)
@given(SHAPES, SEEDS, st.data())
def test_one_entry_that_differs_is_found(shape, seed, data):
    golden = random(shape, seed)
    index = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    allowed = spread(golden) * 1e-9
    obtained = golden.clone()
    obtained[index] += 3 * allowed[index[-1]]
    found = compare(obtained, golden, allowed, output="a")
    assert (*found.index, int(found.variable)) == index
    # The golden rounds what was added.
    assert found.share == pytest.approx(3.0, rel=1e-3)
    assert found.relative == pytest.approx(3e-9, rel=1e-3)


def test_worst_of_several_outputs():
    golden = torch.zeros(1, 1)

    def by(difference):
        return compare(
            golden + difference, golden, torch.ones(1), output=str(difference)
        )

    differences = {str(size): by(size) for size in (1.0, 3.0, 2.0)}
    assert worst(differences.values()).output == "3.0"
    assert worst([*differences.values(), by(math.nan)]).output == "nan"


@pytest.mark.filterwarnings("error")
def test_an_output_that_requires_a_gradient_is_compared_without_a_warning():
    golden = random((2, 3))
    output = (golden.clone() + 0.5).requires_grad_()
    found = compare(output, golden, torch.ones(3), output="prediction")
    assert found.share == pytest.approx(0.5)
