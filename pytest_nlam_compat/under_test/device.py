"""Where models are run."""

from __future__ import annotations

import os

import torch

from pytest_nlam_compat.errors import CompatError


def choose(name: str) -> torch.device:
    """Return the device that was asked for.

    Parameters
    ----------
    name : str
        ``cpu``, ``cuda`` or ``auto`` (CUDA where there is one).

    Returns
    -------
    torch.device

    Raises
    ------
    CompatError
        If CUDA is asked for and absent.
    """
    if name == "cpu":
        return torch.device("cpu")
    # Deterministic matrix products need it set before CUDA is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    raise CompatError(
        "CUDA was asked for, and there is none.",
        facts={
            "torch": torch.__version__,
            "built for CUDA": torch.version.cuda or "no",
            "devices": torch.cuda.device_count(),
        },
        remedy="Use --nlam-compat-device=cpu, or run it where torch sees a "
        "GPU.",
    )
