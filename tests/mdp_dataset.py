"""A small dataset of mllam-data-prep, with neural-lam's configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from pytest_nlam_compat.references.reference import Dataset

NX, NY, STEPS = 4, 3, 12

_INPUT = """\
  {name}:
    path: {path}
    dims: [{dims}]
    variables: [{variables}]
    dim_mapping:
{time}      grid_index:
        method: stack
        dims: [x, y]
      {category}_feature:
        method: stack_variables_by_var_name
        name_format: "{{var_name}}"
    target_output_variable: {category}
"""
_TIME = """\
      time:
        method: rename
        dim: time
"""
_HEAD = """\
schema_version: v0.5.0
dataset_version: v0.1.0
output:
  variables:
    static: [grid_index, static_feature]
    state: [time, grid_index, state_feature]
    forcing: [time, grid_index, forcing_feature]
  coord_ranges:
    time:
      start: 2020-01-01T00:00
      end: {end}
      step: PT3H
  splitting:
    dim: time
    splits:
      train:
        start: 2020-01-01T00:00
        end: {end}
        compute_statistics:
          ops: [mean, std, diff_mean, diff_std]
          dims: [grid_index, time]
      val:
        start: 2020-01-01T00:00
        end: {end}
      test:
        start: 2020-01-01T00:00
        end: {end}
inputs:
"""
FEATURES = {
    "state": ("t2m", "u10"),
    "forcing": ("toa_flux",),
    "static": ("orography", "land"),
}


def write(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Write it; return neural-lam's config.yaml and the values by feature."""
    random = np.random.default_rng(0)
    values = {
        category: {
            name: 5 + 3 * random.standard_normal(shape) for name in names
        }
        for category, names in FEATURES.items()
        for shape in [(NX, NY) if category == "static" else (STEPS, NX, NY)]
    }
    axes = 100.0 * np.arange(NX), 50.0 * np.arange(NY)
    config = folder / "config.yaml"
    write_values(folder, values, axes)
    config.write_text(
        "datastore:\n"
        "  kind: mdp\n"
        "  config_path: datastore.yaml\n"
        "training:\n"
        "  state_feature_weighting:\n"
        "    __config_class__: ManualStateFeatureWeighting\n"
        "    weights:\n"
        "      t2m: 2.0\n"
        "      u10: 0.5\n"
        "  output_clamping:\n"
        "    lower:\n"
        "      t2m: 0.0\n"
    )
    return config, {k: v for each in values.values() for k, v in each.items()}


def write_case(folder: Path, dataset: Dataset) -> None:
    """Write the dataset of a reference, for the configuration beside it."""
    shape = dataset.grid_shape
    values = {
        category: {
            name: dataset.arrays[category][..., i].reshape(
                (-1, *shape) if category != "static" else shape
            )
            for i, name in enumerate(names)
        }
        for category, names in dataset.names.items()
    }
    xy = dataset.arrays["xy"]
    write_values(folder, values, (xy[:, 0, 0], xy[0, :, 1]), "stored.yaml")


def write_values(folder, values, axes, name="datastore.yaml"):
    """Write values by category and feature, (T, Nx, Ny) or (Nx, Ny)."""
    start, step = (
        np.datetime64("2020-01-01T00:00", "ns"),
        np.timedelta64(3, "h"),
    )
    steps = len(next(iter(values["state"].values())))
    end = str(start + (steps - 1) * step)[:16]
    text = _HEAD.format(end=end)
    for category, features in values.items():
        timed = category != "static"
        dims = ("time", "x", "y") if timed else ("x", "y")
        coords = dict(zip("xy", axes, strict=True))
        if timed:
            coords["time"] = start + np.arange(steps) * step
        attributes = {"units": "1", "long_name": "a feature"}
        path = folder / f"{category}.zarr"
        xr.Dataset(
            {n: (dims, value, attributes) for n, value in features.items()},
            coords={
                n: (n, value, {"units": "m"} if n != "time" else {})
                for n, value in coords.items()
            },
        ).to_zarr(path)
        text += _INPUT.format(
            name=category,
            path=path,
            dims=", ".join(dims),
            variables=", ".join(features),
            time=_TIME if timed else "",
            category=category,
        )
    (folder / name).write_text(text)
