"""Folds that need the statistics of the dataset a run was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.operations.folds import fold_inputs
from pytest_nlam_compat.migrations.operations.segments import match
from pytest_nlam_compat.migrations.operations.tensors import (
    OnTensors,
    times,
    with_images,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun, Statistics

if TYPE_CHECKING:
    from torch import Tensor

SCALINGS = ("raw", "standardised", "min-max", "largest-coordinate")
_ORIGINAL = "Pass the dataset that the run was trained on."


@dataclass(repr=False, eq=False)
class FoldStaticFeatures(Operation):
    """Fold a new scaling of the static features into a Linear.

    The static features are the last inputs of the layer, in the order of
    ``Statistics.static_names``.

    Attributes
    ----------
    layer : str
        Name of the Linear, ``"grid_embedder.0"``.
    old : str or mapping of str to str
        How they were scaled, ``"raw"``, ``"standardised"``, ``"min-max"`` or
        ``"largest-coordinate"``; by feature where they differ.
    new : str
        How they are scaled from now on.
    """

    needs: ClassVar[tuple[str, ...]] = ("statistics",)

    layer: str
    old: str | Mapping[str, str]
    new: str

    def __post_init__(self) -> None:
        old = self.old.values() if isinstance(self.old, Mapping) else [self.old]
        for scaling in (*old, self.new):
            if scaling not in SCALINGS:
                raise ValueError(f"Not one of {SCALINGS}: {scaling!r}")

    def apply(self, run: SavedRun) -> SavedRun:
        """Fold into weight, bias and moments."""
        names = statistics_of(self, run).static_names
        scale, shift = [], []
        for name in names:
            old_size, old_zero = _units(self, run, name, self._old(name))
            new_size, new_zero = _units(self, run, name, self.new)
            if old_size == 0:
                raise self.refuse(
                    f"The static feature {name!r} is constant, and its old "
                    "scaling divides by its spread.",
                    _ORIGINAL,
                )
            scale.append(new_size / old_size)
            shift.append((new_zero - old_zero) / old_size)
        return fold_inputs(self, run, self.layer, -len(names), scale, shift)

    def _old(self, name: str) -> str:
        if isinstance(self.old, str):
            return self.old
        if name in self.old:
            return self.old[name]
        raise self.refuse(
            f"The old scaling of the static feature {name!r} is unknown.",
            _ORIGINAL,
        )


@dataclass(repr=False, eq=False)
class FoldDifferenceStatistics(Operation):
    """Fold standardised difference statistics into the last Linear of an MLP.

    The model's output was scaled by the statistics of one-step differences of
    raw states; from now on by those of standardised states. With their mean m
    and standard deviation d, and s the standard deviation of the state, an
    output o of the old model meant o d s + m s, and of the new o d + m. So
    o' = o s + (m s - m) / d. An output scaling has exact images on both
    moments. `mlp` is a name, ``"output_map"``.
    """

    needs: ClassVar[tuple[str, ...]] = ("statistics",)

    mlp: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Fold into weight, bias and moments."""
        std = _array(self, run, "state_std")
        mean = _array(self, run, "state_diff_mean")
        spread = _array(self, run, "state_diff_std")
        shift = (mean * std - mean) / spread
        weight, bias = self._last_linear(run)
        outputs = run.state_dict[weight].shape[0]
        if outputs != len(std):
            raise self.refuse(
                f"{weight!r} has {outputs} outputs, and the state "
                f"{len(std)} variables.",
                _ORIGINAL,
            )

        def image(name: str, tensor: Tensor, power: int) -> Tensor:
            factor = std if name == bias else std[:, None]
            if power:
                return times(tensor, factor**-power)
            scaled = tensor.double() * factor
            if name == bias:
                scaled = scaled + shift
            return scaled.to(tensor.dtype)

        return with_images(run, [weight, bias], image)

    def _last_linear(self, run: SavedRun) -> tuple[str, str]:
        pattern = f"{self.mlp}.*.weight"
        hits = [match(pattern, name) for name in run.state_dict]
        layers = [hit.captured[0] for hit in hits if hit]
        numbers = [int(layer) for layer in layers if layer.isdigit()]
        if not numbers:
            raise self.unmatched(run, pattern)
        last = f"{self.mlp}.{max(numbers)}"
        return f"{last}.weight", f"{last}.bias"


@dataclass(repr=False, eq=False)
class FoldMeshPositions(OnTensors):
    """Fold a new scaling of the mesh positions into the mesh embedders.

    Up to 0.6 a graph held positions over the largest absolute coordinate of
    the grid; 0.7 divides by the longer side of the grid (#323). `names` are
    the weights (h, 2) that multiply the positions.
    """

    needs: ClassVar[tuple[str, ...]] = ("statistics",)

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Scale by the factor, or a moment by its inverse powers."""
        x_min, x_max, y_min, y_max = _extent(self, run)
        longer_side = max(x_max - x_min, y_max - y_min)
        factor = longer_side / _largest_coordinate(self, run)
        return times(tensor, factor if power == 0 else factor**-power)


def _units(
    operation: Operation, run: SavedRun, name: str, scaling: str
) -> tuple[float, float]:
    """Get size and zero of a static feature: raw = size * value + zero."""

    def of(array_name: str) -> float:
        return _static_feature(operation, run, name, array_name)

    if scaling == "raw":
        return 1.0, 0.0
    if scaling == "standardised":
        return of("static_std"), of("static_mean")
    if scaling == "min-max":
        return of("static_max") - of("static_min"), of("static_min")
    return _largest_coordinate(operation, run), 0.0


def statistics_of(operation: Operation, run: SavedRun) -> Statistics:
    """Get the statistics of a run's dataset; refuse a run without them."""
    if run.statistics is None:
        raise operation.refuse(
            "The saved run comes without the statistics of its dataset.",
            _ORIGINAL,
        )
    return run.statistics


def _array(operation: Operation, run: SavedRun, name: str) -> Tensor:
    """Get one array of the statistics, float64."""
    import torch

    arrays = statistics_of(operation, run).arrays
    if name not in arrays:
        raise operation.refuse(
            f"The statistics of the dataset lack {name!r}.",
            _ORIGINAL,
            found=", ".join(arrays) or "none",
        )
    return torch.as_tensor(arrays[name], dtype=torch.float64)


def _static_feature(
    operation: Operation, run: SavedRun, name: str, array_name: str
) -> float:
    names = statistics_of(operation, run).static_names
    if name not in names:
        raise operation.refuse(
            f"The dataset has no static feature {name!r}.",
            _ORIGINAL,
            found=", ".join(names) or "none",
        )
    return float(_array(operation, run, array_name)[names.index(name)])


def _extent(operation: Operation, run: SavedRun) -> list[float]:
    """Get x_min, x_max, y_min and y_max of the grid's coordinates.

    From the static features ``x`` and ``y`` if the statistics have no extent.
    """
    if "extent" in statistics_of(operation, run).arrays:
        return [float(x) for x in _array(operation, run, "extent")]
    return [
        _static_feature(operation, run, name, array_name)
        for name in ("x", "y")
        for array_name in ("static_min", "static_max")
    ]


def _largest_coordinate(operation: Operation, run: SavedRun) -> float:
    """Get the largest absolute coordinate, by which v0.1 to 0.6 divided."""
    return max(abs(limit) for limit in _extent(operation, run))
