"""The table of tolerances, and what a row allows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nlam_compat.numerics import tolerances
from pytest_nlam_compat.numerics.comparison import spread
from pytest_nlam_compat.numerics.tolerances import (
    FLOAT32,
    FLOAT64,
    Tolerance,
    allowed,
    noise32,
)

TABLE = [v for v in vars(tolerances).values() if isinstance(v, Tolerance)]
EPS32 = torch.finfo(torch.float32).eps


def golden(seed=0, shape=(2, 3, 7, 4)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_row_has_a_reason(row):
    assert len(row.rationale.split()) >= 10
    assert row.rationale.endswith(".")
    assert row.relative >= 0
    assert row.noise >= 0
    assert row.relative + row.noise > 0


def test_names_are_unique():
    assert len(TABLE) >= 8
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_float64_is_far_from_both_sides():
    # NEURAL_LAM_FACTS: releases agree to 1e-15, silent breaks begin at 1e-6.
    assert 1e-13 < FLOAT64.relative < 1e-8
    assert FLOAT64.noise == 0


def test_what_a_row_allows():
    row = Tolerance("any", relative=0.5, noise=2.0, rationale="For a test.")
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert allowed(row, values).tolist() == [0.5, 5.0]
    assert allowed(row, values, noise=0.25).tolist() == [1.0, 10.0]


def test_the_noise_is_the_largest_of_all_variables():
    exact = golden()
    rounded = exact.clone()
    rounded[1, 2, 3, 0] += 1e-3
    rounded[0, 1, 2, 3] -= 5e-3
    expected = 5e-3 / spread(exact)[3].item()
    assert noise32(rounded, exact) == pytest.approx(expected)


def test_an_exact_golden_still_has_some_noise():
    exact = torch.tensor([[-8.0], [8.0]], dtype=torch.float64)
    assert noise32(exact.float(), exact) == 4 * EPS32
    # An offset is rounded, too: 16 times as large, over the same spread.
    assert noise32((exact + 120).float(), exact + 120) == 16 * 4 * EPS32


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_rounding_to_float32_is_always_allowed(seed, offset, scale):
    exact = offset + scale * golden(seed, (5, 2))
    rounded = exact.float()
    limit = allowed(FLOAT32, exact, noise32(rounded, exact))
    assert ((rounded.double() - exact).abs() <= limit).all()
