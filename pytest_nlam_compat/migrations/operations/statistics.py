"""What operations read from the statistics of the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.saved_run import SavedRun, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Units:
    """How a feature was scaled: raw = size * value + zero.

    Attributes
    ----------
    size : float
    zero : float
    """

    size: float
    zero: float


def statistics_of(operation: Operation, run: SavedRun) -> Statistics:
    """Get the statistics of a run.

    Raises
    ------
    CompatError
        The run comes without its dataset.
    """
    if run.statistics is None:
        raise operation.refuse(
            "The saved run comes without the statistics of its dataset.",
            "Give the dataset that it was trained on.",
        )
    return run.statistics


def array(operation: Operation, run: SavedRun, name: str) -> Tensor:
    """Get one array of the statistics, float64.

    Raises
    ------
    CompatError
        It isn't there.
    """
    statistics = statistics_of(operation, run)
    if name not in statistics.arrays:
        raise operation.refuse(
            f"The statistics of the dataset lack {name!r}.",
            "Give the dataset that the run was trained on.",
            found=", ".join(statistics.arrays) or "none",
        )
    import torch

    return torch.as_tensor(statistics.arrays[name], dtype=torch.float64)


def static_feature(
    operation: Operation, run: SavedRun, name: str, array_name: str
) -> float:
    """Get a statistic of one static feature.

    Raises
    ------
    CompatError
        The feature or the statistic isn't there.
    """
    names = statistics_of(operation, run).static_names
    if name not in names:
        raise operation.refuse(
            f"The dataset has no static feature {name!r}.",
            "Give the dataset that the run was trained on.",
            found=", ".join(names) or "none",
        )
    return float(array(operation, run, array_name)[names.index(name)])


def extent(operation: Operation, run: SavedRun) -> tuple[float, ...]:
    """Get the extent of the grid's coordinates.

    Returns
    -------
    tuple of float
        x_min, x_max, y_min, y_max; where the statistics don't say, from the
        static features ``x`` and ``y``.

    Raises
    ------
    CompatError
        The dataset lacks them.
    """
    if "extent" in statistics_of(operation, run).arrays:
        limits = array(operation, run, "extent")
        return tuple(float(limits[index]) for index in range(4))
    return tuple(
        static_feature(operation, run, name, array_name)
        for name in ("x", "y")
        for array_name in ("static_min", "static_max")
    )


def largest_coordinate(operation: Operation, run: SavedRun) -> float:
    """Get the largest absolute coordinate: by it v0.1 to 0.6 scaled."""
    return max(abs(limit) for limit in extent(operation, run))


def span(operation: Operation, run: SavedRun) -> float:
    """Get the longer side of the grid: by it 0.7 scales (#323)."""
    x_min, x_max, y_min, y_max = extent(operation, run)
    return max(x_max - x_min, y_max - y_min)


def static_units(
    operation: Operation, run: SavedRun, name: str, scaling: str
) -> Units:
    """Get the units of a static feature under one of the scalings.

    Parameters
    ----------
    operation : Operation
    run : SavedRun
    name : str
        Of the feature.
    scaling : str
        One of `SCALINGS`.

    Returns
    -------
    Units

    Raises
    ------
    CompatError
        Statistics are missing.
    """

    def of(array_name: str) -> float:
        return static_feature(operation, run, name, array_name)

    if scaling == "raw":
        return Units(1.0, 0.0)
    if scaling == "standardised":
        return Units(of("static_std"), of("static_mean"))
    if scaling == "min-max":
        low, high = of("static_min"), of("static_max")
        return Units(high - low, low)
    return Units(largest_coordinate(operation, run), 0.0)


SCALINGS = ("raw", "standardised", "min-max", "largest-coordinate")
