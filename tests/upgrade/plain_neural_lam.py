"""Loads upgraded checkpoints with neural-lam's own loader and nothing of ours.

Called as ``python -I plain_neural_lam.py FOLDER...``; writes what each rolled
out as ``outputs.npz`` into its folder.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import cartopy.crs as ccrs
import neural_lam
import numpy as np
import torch
import xarray as xr
from neural_lam.config import NeuralLAMConfig
from neural_lam.datastore.base import (
    BaseRegularGridDatastore,
    CartesianGridShape,
)
from neural_lam.train_model import load_forecaster_module_from_checkpoint


class Datastore(BaseRegularGridDatastore):
    """Serves arrays of a file."""

    SHORT_NAME = "arrays"
    config = {}  # noqa: RUF012
    coords_projection = ccrs.PlateCarree()

    def __init__(self, folder, names, step_hours):
        self.root_path = folder
        self._arrays = dict(np.load(folder / "dataset.npz"))
        self._names = names
        self.step_length = timedelta(hours=step_hours)

    root_path = None
    step_length = None

    def get_vars_names(self, category):
        return list(self._names[category])

    get_vars_long_names = get_vars_units = get_vars_names

    def get_num_data_vars(self, category):
        return len(self._names[category])

    def get_standardization_dataarray(self, category):
        names = [f"{category}_mean", f"{category}_std"]
        if category == "state":
            names += ["state_diff_mean", "state_diff_std"]
        dimension = f"{category}_feature"
        return xr.Dataset(
            {
                name + "_standardized" * ("diff" in name): (
                    dimension,
                    self._arrays[name].astype("f4"),
                )
                for name in names
            },
            coords={dimension: self.get_vars_names(category)},
        )

    def get_dataarray(self, category, split, standardize=False):
        values = self._arrays[category].astype("f4")
        array = xr.DataArray(
            values,
            dims=self.expected_dim_order(category),
            coords={
                "grid_index": np.arange(values.shape[-2]),
                f"{category}_feature": self.get_vars_names(category),
            },
        )
        if standardize:
            return self._standardize_datarray(array, category=category)
        return array

    @property
    def boundary_mask(self):
        mask = self._arrays["boundary_mask"].astype("f4")
        return xr.DataArray(mask, dims=("grid_index",))

    def get_xy(self, category, stacked=True):
        xy = self._arrays["xy"].astype("f8")
        return xy.reshape(-1, 2) if stacked else xy

    @property
    def grid_shape_state(self):
        nx, ny = self._arrays["xy"].shape[:2]
        return CartesianGridShape(x=nx, y=ny)

    @property
    def state_feature_weights_values(self):
        return [1.0] * self.get_num_data_vars("state")


def roll_out(folder):
    described = json.loads((folder / "described.json").read_text())
    datastore = Datastore(folder, described["names"], described["step_hours"])
    module = load_forecaster_module_from_checkpoint(
        str(folder / described["checkpoint"]),
        NeuralLAMConfig.from_yaml_file(str(folder / "config.yaml")),
        datastore,
    ).eval()
    batch = {
        name: torch.from_numpy(array).float()
        for name, array in np.load(folder / "batch.npz").items()
    }
    with torch.no_grad():
        prediction, pred_std = module.forecaster(
            batch["init_states"], batch["forcing"], batch["target_states"]
        )
    outputs = {"prediction": prediction.numpy()}
    if pred_std is not None:
        outputs["pred_std"] = pred_std.numpy()
    np.savez(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        roll_out(Path(argument))
    assert not any("nlam_compat" in name for name in sys.modules)
    print(neural_lam.__version__)
