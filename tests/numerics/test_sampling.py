"""The fixed sample of a tensor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nlam_compat.numerics.comparison import SAMPLE_SIZE, sample


def test_entries_are_at_equal_distances():
    found = sample(torch.arange(15).reshape(3, 5))
    assert found.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize("size", [16777220, 33554436])
def test_a_tensor_whose_size_float32_rounds_up(size):
    assert len(sample(torch.zeros(1).expand(size))) == SAMPLE_SIZE


def test_strides_and_gradients_do_not_matter():
    tensor = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    parameter = torch.nn.Parameter(tensor.t())
    found = sample(parameter)
    assert found.tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    assert found.dtype is torch.float64
    assert not found.requires_grad


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_both_ends_are_in_it_and_nothing_twice(size):
    found = sample(torch.arange(size)).tolist()
    assert len(set(found)) == len(found) == min(size, SAMPLE_SIZE)
    assert (found[0], found[-1]) == (0, size - 1)
