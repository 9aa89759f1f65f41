"""Draw small datasets with exact arithmetic.

They are drawn with a seed once, at recording time, and stored as tensors:
references never depend on a random generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_nlam_compat.recording.cases import STATE, Case
from pytest_nlam_compat.references.reference import Dataset

FORCING = ("toa_flux", "sst")
STATIC = ("orography", "land_fraction", "boundary")

# Means have few bits and standard deviations are powers of two: standardising
# is then exact in float32, in any order of its operations, so that a batch can
# be compared bit by bit.
_STATE_MEAN = (280.0, 0.5, 4.0, 2.0)
_STATE_STD = (8.0, 0.125, 1.0, 4.0)
_DIFF_MEAN = (0.03125, -0.0625, 0.015625, 0.125)
_DIFF_STD = (0.5, 0.375, 0.625, 0.75)
_FORCING_MEAN = (256.0, 288.0)
_FORCING_STD = (128.0, 4.0)

Array = npt.NDArray[np.float32]


def dataset(case: Case, series_length: int, seed: int) -> Dataset:
    """Draw the dataset of a case, with `series_length` times.

    A forecast has that many steps, and there is one for each sample.

    Standardised values are multiples of 1/16 in [-1.5, 1.5].
    """
    random = np.random.default_rng(seed)
    grid = case.grid
    nodes = grid.nx * grid.ny
    arrays: dict[str, npt.NDArray[Any]] = {
        "xy": _coordinates(case),
        "boundary_mask": _boundary(grid.nx, grid.ny),
    }

    def draw(name: str, shape: tuple[int, ...], mean: Any, std: Any) -> None:
        mean, std = _float32(mean), _float32(std)
        steps = random.integers(-24, 25, size=(*shape, len(mean)))
        arrays[name] = (mean + std * (steps / np.float32(16))).astype("f4")
        arrays[f"{name}_mean"], arrays[f"{name}_std"] = mean, std

    times = (case.samples, series_length) if case.forecast else (series_length,)
    members = (case.members,) if case.members else ()
    draw("state", (*times, *members, nodes), _STATE_MEAN, _STATE_STD)
    draw("forcing", (*times, nodes), _FORCING_MEAN, _FORCING_STD)
    arrays["state_diff_mean"] = _float32(_DIFF_MEAN)
    arrays["state_diff_std"] = _float32(_DIFF_STD)
    static = np.stack(
        [
            random.integers(0, 1024, nodes).astype("f4"),
            random.integers(0, 9, nodes).astype("f4") / 8,
            arrays["boundary_mask"],
        ],
        axis=1,
    )
    arrays["static"] = static
    # Not exact on purpose: releases round static features differently.
    arrays["static_mean"] = static.mean(axis=0, dtype="f8").astype("f4")
    arrays["static_std"] = static.std(axis=0, dtype="f8").astype("f4")
    names = {"state": STATE, "forcing": FORCING, "static": STATIC}
    return Dataset(names=names, arrays=arrays)


def _float32(values: Sequence[float]) -> Array:
    return np.asarray(values, dtype="f4")


def _coordinates(case: Case) -> npt.NDArray[np.float64]:
    """Regular coordinates (Nx, Ny, 2) off the origin, not symmetric."""
    grid = case.grid
    x = 3.0 + np.linspace(0.0, grid.width, grid.nx)
    y = 5.0 + np.linspace(0.0, grid.height, grid.ny)
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)


def _boundary(nx: int, ny: int) -> Array:
    """1 on the first and last column of nodes and one corner row, else 0."""
    mask = np.zeros((nx, ny), dtype="f4")
    mask[0, :] = mask[-1, :] = 1
    mask[: nx // 3, 0] = 1
    return mask.reshape(-1)
