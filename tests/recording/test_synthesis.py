"""Datasets that are drawn for recording: exact, small and not symmetric."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nlam_compat.recording.cases import CASES, Case, Grid
from pytest_nlam_compat.recording.synthesis import dataset

GRIDS = st.builds(
    Grid,
    nx=st.integers(2, 30),
    ny=st.integers(2, 30),
    width=st.floats(1, 100),
    height=st.floats(1, 100),
)


def drawn(grid=CASES[0].grid, length=6, seed=0):
    return dataset(Case("any", "graph_lam", grid), length, seed)


@settings(deadline=None, max_examples=50)
@given(GRIDS, st.integers(1, 9), st.integers(0, 99))
def test_standardising_is_exact_in_float32(grid, length, seed):
    """In whichever order: dividing, or multiplying by the reciprocal."""
    arrays = drawn(grid, length, seed).arrays
    for name in ("state", "forcing"):
        raw, mean, std = (arrays[f"{name}{k}"] for k in ("", "_mean", "_std"))
        assert {array.dtype for array in (raw, mean, std)} == {np.dtype("f4")}
        values = (raw - mean) / std
        assert np.array_equal(values * 16, np.round(values * 16))
        assert np.abs(values).max() <= 1.5
        assert np.array_equal(values, (raw - mean) * (1 / std))
        assert np.array_equal(values, (raw.astype("f8") - mean) / std)


@settings(deadline=None, max_examples=50)
@given(GRIDS, st.integers(1, 9))
def test_shapes(grid, length):
    found = drawn(grid, length)
    nodes = grid.nx * grid.ny
    shapes = {name: array.shape for name, array in found.arrays.items()}
    assert found.grid_shape == (grid.nx, grid.ny)
    assert shapes["xy"] == (grid.nx, grid.ny, 2)
    assert shapes["state"] == (length, nodes, 4)
    assert shapes["forcing"] == (length, nodes, 2)
    assert shapes["static"] == (nodes, 3)
    assert shapes["boundary_mask"] == (nodes,)
    for category, names in found.names.items():
        for moment in ("mean", "std"):
            assert shapes[f"{category}_{moment}"] == (len(names),)


def test_a_seed_gives_one_dataset():
    one, again, other = drawn(), drawn(), drawn(seed=1)
    for name, array in one.arrays.items():
        assert np.array_equal(array, again.arrays[name])
    assert not np.array_equal(one.arrays["state"], other.arrays["state"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_variable_is_constant(case):
    arrays = dataset(case, 6, 0).arrays
    for category in ("state", "forcing", "static"):
        assert (
            arrays[category].reshape(-1, arrays[category].shape[-1]).std(axis=0)
            > 0
        ).all()
        assert (arrays[f"{category}_std"] > 0).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_grid_tells_its_axes_apart(case):
    found = dataset(case, 6, 0)
    xy, mask = found.arrays["xy"], found.arrays["boundary_mask"]
    assert (np.diff(xy[:, 0, 0]) > 0).all()
    assert (np.diff(xy[0, :, 1]) > 0).all()
    assert xy.min() > 0  # off the origin
    # Some nodes are inside, and turning the domain over shows.
    grid = mask.reshape(found.grid_shape)
    assert 0 < mask.sum() < mask.size
    assert not np.array_equal(grid, grid[:, ::-1])
    if grid.shape[0] == grid.shape[1]:
        assert not np.array_equal(grid, grid.T)
