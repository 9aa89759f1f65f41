"""A neural-lam datastore over the stored arrays of a reference."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import cartopy.crs as ccrs
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from neural_lam import utils
from neural_lam.datastore.base import (
    BaseRegularGridDatastore,
    CartesianGridShape,
)

from pytest_nlam_compat.references.reference import CATEGORIES, Dataset


class StoredDatastore(BaseRegularGridDatastore):  # type: ignore[misc]
    """Serves a `Dataset` through the datastore interface of neural-lam.

    All arrays have one dtype: float64 for judging outputs, so that statics
    are standardized without rounding.
    """

    SHORT_NAME = "stored"

    def __init__(
        self, dataset: Dataset, root_path: Path, dtype: npt.DTypeLike
    ) -> None:
        self._dataset = dataset
        self._root_path = Path(root_path)
        self._dtype = np.dtype(dtype)
        self.is_forecast = dataset.is_forecast
        self.is_ensemble = dataset.is_ensemble

    @cached_property
    def _grid(self) -> xr.Coordinates:
        sizes = map(range, self._dataset.grid_shape)
        nodes = pd.MultiIndex.from_product(sizes, names=["x", "y"])
        return xr.Coordinates.from_pandas_multiindex(nodes, "grid_index")

    def _array(self, name: str) -> npt.NDArray[Any]:
        return self._dataset.arrays[name].astype(self._dtype)

    @property
    def root_path(self) -> Path:
        """Folder that holds ``graph/<name>``."""
        return self._root_path

    @property
    def config(self) -> dict[str, Any]:
        """Return nothing: stored arrays have no configuration file."""
        return {}

    @property
    def step_length(self) -> timedelta | float:
        """Time between two states; hours as int up to neural-lam 0.5."""
        if hasattr(utils, "get_integer_time"):
            return timedelta(hours=self._dataset.step_hours)
        return self._dataset.step_hours

    def get_vars_names(self, category: str) -> list[str]:
        """Names of the features of a category."""
        return list(self._dataset.names[category])

    # Nothing here is plotted.
    get_vars_long_names = get_vars_names

    def get_vars_units(self, category: str) -> list[str]:
        """Units, all dimensionless: nothing here is plotted."""
        return ["1"] * len(self._dataset.names[category])

    def get_num_data_vars(self, category: str) -> int:
        """Return the number of features of a category."""
        return len(self._dataset.names[category])

    def get_standardization_dataarray(self, category: str) -> xr.Dataset:
        """Mean and standard deviation of each feature of a category."""
        dimension = f"{category}_feature"
        served = [f"{category}_mean", f"{category}_std"]
        data = {name: (dimension, self._array(name)) for name in served}
        if category == "state":
            for moment in ("mean", "std"):
                data[f"state_diff_{moment}_standardized"] = (
                    dimension,
                    self._array(f"state_diff_{moment}"),
                )
        return xr.Dataset(
            data, coords={dimension: self.get_vars_names(category)}
        )

    def get_dataarray(
        self, category: str, split: str | None, standardize: bool = False
    ) -> xr.DataArray | None:
        """Return a category; every split is the whole series."""
        if category not in CATEGORIES:
            raise ValueError(f"Unknown category {category!r}")
        if not self._dataset.names[category]:
            return None
        values = self._array(category)
        dims = self.expected_dim_order(category)
        coords: dict[str, Any] = {
            name: np.arange(size)
            for name, size in zip(dims, values.shape, strict=True)
            if name != "grid_index"
        }
        coords[f"{category}_feature"] = self.get_vars_names(category)
        step = np.timedelta64(round(3600 * self._dataset.step_hours), "s")
        start = np.datetime64(self._dataset.start, "ns")
        if "time" in coords:
            coords["time"] = start + coords["time"] * step
        elif "analysis_time" in coords:
            length = values.shape[1] * step
            coords["analysis_time"] = start + coords["analysis_time"] * length
            coords["elapsed_forecast_duration"] = (
                coords["elapsed_forecast_duration"] * step
            ).astype("timedelta64[ns]")
        array = xr.DataArray(values, dims=dims, coords=coords)
        # Evaluation returns to the grid.
        array = array.assign_coords(self._grid)
        if standardize:
            return self._standardize_datarray(array, category=category)
        return array

    @cached_property
    def boundary_mask(self) -> xr.DataArray:
        """1 where a grid node is boundary, 0 inside, over ``grid_index``."""
        return xr.DataArray(self._array("boundary_mask"), dims=("grid_index",))

    def get_xy(self, category: str, stacked: bool = True) -> npt.NDArray[Any]:
        """Coordinates, (N, 2) stacked or (Nx, Ny, 2)."""
        xy = self._dataset.arrays["xy"].astype(np.float64)
        return xy.reshape(-1, 2) if stacked else xy

    @property
    def coords_projection(self) -> ccrs.Projection:
        """Any projection: nothing here is plotted."""
        return ccrs.PlateCarree()

    @cached_property
    def grid_shape_state(self) -> CartesianGridShape:
        """Grid nodes along x and y."""
        nx, ny = self._dataset.grid_shape
        return CartesianGridShape(x=nx, y=ny)

    @cached_property
    def state_feature_weights_values(self) -> list[float]:
        """One for each state variable; the configuration has the weights."""
        return [1.0] * self.get_num_data_vars("state")
