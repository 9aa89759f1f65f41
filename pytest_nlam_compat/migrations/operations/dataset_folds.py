"""Folds that need the statistics of the dataset a run was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
)
from pytest_nlam_compat.migrations.operations.folds import Affine, fold_inputs
from pytest_nlam_compat.migrations.operations.segments import match
from pytest_nlam_compat.migrations.operations.statistics import (
    SCALINGS,
    array,
    largest_coordinate,
    span,
    static_units,
    statistics_of,
)
from pytest_nlam_compat.migrations.operations.tensors import (
    OnTensors,
    times,
    with_images,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
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

    Raises
    ------
    CompatError
        Statistics are missing, a feature has no old scaling, or the layer
        lacks weight, bias or columns.
    """

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
            old = static_units(self, run, name, self._old(name))
            new = static_units(self, run, name, self.new)
            if old.size == 0:
                raise self.refuse(
                    f"The static feature {name!r} is constant, and its old "
                    "scaling divides by its spread.",
                    "Give the dataset that the run was trained on.",
                )
            scale.append(new.size / old.size)
            shift.append((new.zero - old.zero) / old.size)
        units = Affine(tuple(scale), tuple(shift))
        return fold_inputs(self, run, self.layer, -len(names), units)

    def _old(self, name: str) -> str:
        if not isinstance(self.old, Mapping):
            return self.old
        if name not in self.old:
            raise self.refuse(
                f"It isn't said how the static feature {name!r} was scaled.",
                "Give the dataset that the run was trained on.",
            )
        return self.old[name]


@dataclass(frozen=True, repr=False)
class FoldDifferenceStatistics(Operation):
    """Fold standardised difference statistics into the last Linear of an MLP.

    The model's output was scaled by the statistics of one-step differences of
    raw states; from now on by those of standardised states. With their mean m
    and standard deviation d, and s the standard deviation of the state, an
    output o of the old model meant o d s + m s, and of the new o d + m. So
    o' = o s + (m s - m) / d. An output scaling has exact images on both
    moments.

    Attributes
    ----------
    mlp : str
        Name of the MLP, ``"output_map"``.

    Raises
    ------
    CompatError
        Statistics are missing, the MLP has no Linear, or another number of
        outputs than the state has variables.
    """

    mlp: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Fold into weight, bias and moments."""
        std = array(self, run, "state_std")
        mean = array(self, run, "state_diff_mean")
        spread = array(self, run, "state_diff_std")
        shift = (mean * std - mean) / spread
        weight, bias = self._last_linear(run)
        outputs = run.state_dict[weight].shape[0]
        if outputs != len(std):
            raise self.refuse(
                f"{weight!r} has {outputs} outputs, and the state "
                f"{len(std)} variables.",
                "Give the dataset that the run was trained on.",
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
        numbers = [
            int(found.captured[0])
            for name in run.state_dict
            if (found := match(f"{self.mlp}.*.weight", name)) is not None
            and found.captured[0].isdigit()
        ]
        if not numbers:
            raise nothing_matched(self, run, f"{self.mlp}.*.weight")
        last = f"{self.mlp}.{max(numbers)}"
        return f"{last}.weight", f"{last}.bias"


@dataclass(frozen=True, repr=False)
class FoldMeshPositions(OnTensors):
    """Fold a new scaling of the mesh positions into the mesh embedders.

    Up to 0.6 a graph held positions over the largest absolute coordinate of
    the grid; 0.7 divides by the longer side of the grid (#323).

    Attributes
    ----------
    names : str
        Pattern of the weights (h, 2) that take the positions.

    Raises
    ------
    CompatError
        Nothing matches, or statistics are missing.
    """

    def apply(self, run: SavedRun) -> SavedRun:
        """Scale the weights and their moments."""
        factor = span(self, run) / largest_coordinate(self, run)

        def image(name: str, tensor: Tensor, power: int) -> Tensor:
            return times(tensor, factor if power == 0 else factor**-power)

        return with_images(run, self.matched(run), image)
