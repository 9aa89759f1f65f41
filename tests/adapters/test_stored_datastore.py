"""Stored arrays behind the real datastore interface of neural-lam."""

from datetime import timedelta

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.neural_lam


@pytest.fixture(scope="module")
def dataset(reference_of):
    return reference_of("0.7.0-graph_lam").dataset


@pytest.fixture(params=["f4", "f8"])
def store(request, current_adapter, dataset, tmp_path):
    from pytest_nlam_compat.adapters.datastore import StoredDatastore

    return StoredDatastore(dataset, tmp_path, request.param)


@pytest.fixture
def dtype(store):
    return store._dtype


def test_it_is_a_datastore_of_neural_lam(store, tmp_path):
    from neural_lam.datastore.base import BaseRegularGridDatastore

    assert isinstance(store, BaseRegularGridDatastore)
    assert store.root_path == tmp_path
    assert dict(store.config) == {}
    assert not store.is_ensemble
    assert not store.is_forecast
    assert store.step_length == timedelta(hours=3)
    assert store.num_grid_points == 54
    assert (store.grid_shape_state.x, store.grid_shape_state.y) == (9, 6)


@pytest.mark.parametrize("hours", [1, 3, 6])
def test_up_to_0_5_a_step_is_a_number_of_hours(
    store, dataset, monkeypatch, hours
):
    from dataclasses import replace

    from neural_lam import utils

    monkeypatch.setattr(store, "_dataset", replace(dataset, step_hours=hours))
    assert store.step_length == timedelta(hours=hours)
    monkeypatch.delattr(utils, "get_integer_time")
    assert store.step_length == hours


@pytest.mark.parametrize("category", ["state", "forcing", "static"])
@pytest.mark.parametrize("split", ["train", "val", "test", None])
def test_a_category_in_the_expected_order(
    store, dataset, dtype, category, split
):
    array = store.get_dataarray(category, split)
    assert array.dims == store.expected_dim_order(category)
    assert array.dtype == dtype
    assert np.array_equal(array.values, dataset.arrays[category].astype(dtype))
    names = list(dataset.names[category])
    assert list(array[f"{category}_feature"].values) == names
    nodes = list(np.ndindex(dataset.grid_shape))
    assert list(array.grid_index.values) == nodes
    assert store.get_vars_names(category) == names
    assert store.get_vars_long_names(category) == names
    assert store.get_vars_units(category) == ["1"] * len(names)
    assert store.get_num_data_vars(category) == len(names)


def test_times_follow_each_other(store):
    times = store.get_dataarray("state", "train").time.values
    assert times.dtype == np.dtype("datetime64[ns]")
    assert times[0] == np.datetime64("2024-01-01T00:00")
    assert set(np.diff(times)) == {np.timedelta64(3, "h")}


def test_what_is_served_is_a_copy(store, dataset):
    before = dataset.arrays["state"].copy()
    store.get_dataarray("state", "train").values[:] = 0
    assert np.array_equal(dataset.arrays["state"], before)


@pytest.mark.parametrize("category", ["state", "forcing", "static"])
def test_standardised(store, dataset, dtype, category):
    array = store.get_dataarray(category, "train", standardize=True)
    raw, mean, std = (
        dataset.arrays[f"{category}{kind}"].astype(dtype)
        for kind in ("", "_mean", "_std")
    )
    assert array.dtype == dtype
    assert np.array_equal(array.values, (raw - mean) / std)


def test_statistics(store, dataset, dtype):
    found = store.get_standardization_dataarray("state")
    served = {
        "state_mean": "state_mean",
        "state_std": "state_std",
        "state_diff_mean_standardized": "state_diff_mean",
        "state_diff_std_standardized": "state_diff_std",
    }
    assert set(found.data_vars) == set(served)
    for name, stored in served.items():
        assert found[name].dims == ("state_feature",)
        assert found[name].dtype == dtype
        assert np.array_equal(found[name], dataset.arrays[stored])
    static = store.get_standardization_dataarray("static")
    assert set(static.data_vars) == {"static_mean", "static_std"}


def test_a_category_without_features(store, dataset, monkeypatch):
    from dataclasses import replace

    empty = replace(dataset, names={**dataset.names, "forcing": ()})
    monkeypatch.setattr(store, "_dataset", empty)
    assert store.get_dataarray("forcing", "train") is None
    assert store.get_num_data_vars("forcing") == 0


def test_an_unknown_category(store):
    with pytest.raises(ValueError, match=r"^Unknown category 'ocean'$"):
        store.get_dataarray("ocean", "train")


def test_the_boundary(store, dataset):
    mask = store.boundary_mask
    assert mask.dims == ("grid_index",)
    assert np.array_equal(mask, dataset.arrays["boundary_mask"])
    assert set(np.unique(mask)) == {0, 1}


def test_coordinates_of_nodes_in_x_major_order(store):
    stacked, grid = store.get_xy("state"), store.get_xy("state", stacked=False)
    assert stacked.shape == (54, 2)
    assert grid.shape == (9, 6, 2)
    assert np.array_equal(stacked[1], grid[0, 1])
    assert np.array_equal(stacked[6], grid[1, 0])
    assert list(store.get_xy_extent("state")) == [3.0, 19.0, 5.0, 17.0]


def test_stacking_is_that_of_neural_lam(store):
    """Its node order is the one of the arrays: x first, then y."""
    state = store.get_dataarray("state", "train")
    grid = store.unstack_grid_coords(state)
    assert dict(grid.sizes)["x"] == 9
    assert dict(grid.sizes)["y"] == 6
    values = state.values.reshape(-1, 9, 6, 4)
    found = grid.transpose("time", "x", "y", "state_feature").values
    assert np.array_equal(found, values)


def test_the_rest_of_the_interface(store):
    import cartopy.crs

    assert isinstance(store.coords_projection, cartopy.crs.Projection)
    assert store.state_feature_weights_values == [1.0] * 4
    assert store.get_lat_lon("state").shape == (54, 2)


def test_weather_dataset_serves_the_recorded_samples(
    store, dtype, current_adapter, reference_of
):
    """Raw from 0.7 on, with the forcing window of the arguments."""
    from argparse import Namespace

    reference = reference_of("0.7.0-graph_lam-window21")
    arrays = reference.dataset.arrays
    store = type(store)(reference.dataset, store.root_path, dtype)
    args = Namespace(num_past_forcing_steps=2, num_future_forcing_steps=1)
    data = current_adapter.data_module(store, args, 3)
    samples = data.train_dataloader().dataset
    init, target, forcing, times = samples[0]
    assert np.array_equal(init, arrays["state"][:2])
    assert np.array_equal(target, arrays["state"][2:5])
    assert forcing.shape == (3, 54, 2 * 4)
    # Feature by feature, and from the past to the future in each.
    window = arrays["forcing"][0:4, :, 0].T
    assert np.array_equal(forcing[0, :, :4], window)
    *_, recorded = reference.batch()
    assert torch.equal(times, recorded[0])


@pytest.fixture
def served(current_adapter, reference_of, tmp_path):
    from pytest_nlam_compat.adapters.datastore import StoredDatastore

    def datastore(name):
        dataset = reference_of(name).dataset
        return dataset, StoredDatastore(dataset, tmp_path, "f4")

    return datastore


def test_forecasts_follow_each_other(served):
    dataset, store = served("0.7.0-graph_lam-forecast")
    assert store.is_forecast
    assert not store.is_ensemble
    for category in ("state", "forcing"):
        array = store.get_dataarray(category, "train")
        assert array.dims == store.expected_dim_order(category)
        assert np.array_equal(array.values, dataset.arrays[category])
    times = array.analysis_time + array.elapsed_forecast_duration
    assert times.dtype == np.dtype("datetime64[ns]")
    flat = times.values.reshape(-1)
    assert flat[0] == np.datetime64("2024-01-01T00:00")
    assert set(np.diff(flat)) == {np.timedelta64(3, "h")}


def test_only_the_state_has_members(served):
    dataset, store = served("0.7.0-graph_lam-ensemble")
    assert store.is_ensemble
    assert not store.is_forecast
    for category in ("state", "forcing"):
        array = store.get_dataarray(category, "train")
        assert array.dims == store.expected_dim_order(category)
        assert np.array_equal(array.values, dataset.arrays[category])
    state = store.get_dataarray("state", "train")
    assert list(state.ensemble_member.values) == [0, 1]
    first, second = (state.isel(ensemble_member=i).values for i in (0, 1))
    assert not np.array_equal(first, second)
