"""What neural-lam builds upon, imported once for all mutants."""

from __future__ import annotations

import importlib

_MODULES = (
    "cartopy.crs",
    "cartopy.mpl.geoaxes",
    "dask.array",
    "dataclass_wizard",
    "loguru",
    "matplotlib.pyplot",
    "mlflow.pytorch",
    "mllam_data_prep",
    "networkx",
    "pytest_regressions.file_regression",
    "pytorch_lightning",
    "safetensors.torch",
    "scipy.optimize",
    "torch",
    "torch_geometric",
    "xarray",
)


def preload() -> None:
    """Import it, so that each process that is forked begins quickly."""
    for name in _MODULES:
        importlib.import_module(name)
    import torch

    # A process that is forked has none of the threads of its parent.
    torch.set_num_threads(1)
