"""A small dataset of mllam-data-prep, with neural-lam's configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

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
      end: 2020-01-02T09:00
      step: PT3H
  splitting:
    dim: time
    splits:
      train:
        start: 2020-01-01T00:00
        end: 2020-01-02T09:00
        compute_statistics:
          ops: [mean, std, diff_mean, diff_std]
          dims: [grid_index, time]
      val:
        start: 2020-01-01T00:00
        end: 2020-01-02T09:00
      test:
        start: 2020-01-01T00:00
        end: 2020-01-02T09:00
inputs:
"""
_FEATURES = {
    "state": ("t2m", "u10"),
    "forcing": ("toa_flux",),
    "static": ("orography", "land"),
}


def write(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Write it; return neural-lam's config.yaml and the values by feature."""
    random = np.random.default_rng(0)
    text = _HEAD
    values = {}
    for category, names in _FEATURES.items():
        timed = category != "static"
        dims = ("time", "x", "y") if timed else ("x", "y")
        shape = (STEPS, NX, NY) if timed else (NX, NY)
        for name in names:
            values[name] = 5 + 3 * random.standard_normal(shape)
        coords = {"x": 100.0 * np.arange(NX), "y": 50.0 * np.arange(NY)}
        if timed:
            start = np.datetime64("2020-01-01T00:00", "ns")
            coords["time"] = start + np.arange(STEPS) * np.timedelta64(3, "h")
        attributes = {"units": "1", "long_name": "a feature"}
        path = folder / f"{category}.zarr"
        xr.Dataset(
            {name: (dims, values[name], attributes) for name in names},
            coords={
                name: (name, value, {"units": "m"} if name != "time" else {})
                for name, value in coords.items()
            },
        ).to_zarr(path)
        text += _INPUT.format(
            name=category,
            path=path,
            dims=", ".join(dims),
            variables=", ".join(names),
            time=_TIME if timed else "",
            category=category,
        )
    (folder / "datastore.yaml").write_text(text)
    config = folder / "config.yaml"
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
    return config, values
