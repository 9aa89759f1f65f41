"""Statistics of a dataset, as migrations need them to fold them in."""

from __future__ import annotations

import torch

from pytest_nlam_compat.migrations import Statistics
from pytest_nlam_compat.references.reference import Dataset

_STORED = (
    "state_mean",
    "state_std",
    "state_diff_mean",
    "state_diff_std",
    "static_mean",
    "static_std",
)


def statistics(dataset: Dataset) -> Statistics:
    """Collect the statistics of a dataset, in float64."""
    arrays = {
        name: torch.from_numpy(dataset.arrays[name]).double()
        for name in _STORED
    }
    static = torch.from_numpy(dataset.arrays["static"]).double()
    arrays["static_min"] = static.amin(dim=0)
    arrays["static_max"] = static.amax(dim=0)
    xy = torch.from_numpy(dataset.arrays["xy"]).double().reshape(-1, 2)
    limits = torch.stack((xy.amin(dim=0), xy.amax(dim=0)), dim=1)
    arrays["extent"] = limits.flatten()
    return Statistics(arrays, list(dataset.names["static"]))
