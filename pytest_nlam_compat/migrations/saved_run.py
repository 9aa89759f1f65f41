"""A saved run: a checkpoint with what it can't be understood without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_nlam_compat.checkpoints.stand_ins import TensorRef

if TYPE_CHECKING:
    from torch import Tensor, dtype

    from pytest_nlam_compat.references.reference import Dataset

Lazy: TypeAlias = "Tensor | TensorRef"
GraphTensor: TypeAlias = "Tensor | list[Tensor]"
_STORED = (
    *("state_mean", "state_std", "state_diff_mean", "state_diff_std"),
    *("static_mean", "static_std"),
)
WEIGHT = "weight"
"""In `SavedRun.stored_types`, the tensor itself rather than a moment of it."""


def values(tensor: Lazy) -> Tensor:
    """Return a tensor in memory, loading it from its file if necessary.

    A tensor in memory is returned as it is. One that is loaded is float64 if
    it is floating point, so that it is rounded once after all steps
    (`SavedRun.cast_back`). Raises a CompatError if the file is damaged.
    """
    if not isinstance(tensor, TensorRef):
        return tensor
    return _as_double(tensor.load().detach())


def loaded(tensor: Lazy) -> Tensor:
    """Return a tensor in memory, in the type that it has in its file."""
    return tensor.load() if isinstance(tensor, TensorRef) else tensor


def dtype_named(name: str) -> dtype:
    """Find an element type of torch by its name, or raise ValueError."""
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"torch has no dtype {name!r}")
    return found


def dtype_name(tensor: Lazy) -> str:
    """Return the element type by name, such as ``"float32"``."""
    return str(tensor.dtype).removeprefix("torch.")


def _as_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


@dataclass
class Optimizer:
    """State of one optimizer, by parameter name instead of by position.

    Attributes
    ----------
    names : list of str
        Parameters in the order of their positions in the file.
    moments : dict of str to dict of str to Tensor
        ``moments[name][kind]``, kind ``"exp_avg"``, ``"exp_avg_sq"`` (shape
        of the parameter) or ``"step"`` (scalar). A parameter that never had
        a gradient has no entry.
    param_groups : list of dict
        As in the file, without ``"params"``; one group.
    reset : dict of str to str
        Moments without an exact image under a migration, as ``"name.kind"``,
        with the reason and what took their place.
    """

    names: list[str]
    moments: dict[str, dict[str, Tensor]]
    param_groups: list[dict[str, Any]]
    reset: dict[str, str] = field(default_factory=dict)

    def map_moments(
        self, function: Callable[[str, str, Tensor], Tensor]
    ) -> Optimizer:
        """Return a copy with ``function(name, kind, moment)`` for moments."""
        return replace(
            self,
            moments={
                name: {k: function(name, k, m) for k, m in kinds.items()}
                for name, kinds in self.moments.items()
            },
        )


@dataclass
class Statistics:
    """Statistics of the dataset that a run was trained on.

    Attributes
    ----------
    arrays : mapping of str to (Tensor or sequence of float)
        float64. ``state_mean``, ``state_std`` (per state variable);
        ``state_diff_mean``, ``state_diff_std`` of one-step differences of
        standardised states, as since 0.4; ``static_mean``,
        ``static_std`` (per static feature, population, in the order of
        ``static_names``); ``static_min``, ``static_max``; and ``extent``, of
        the grid's coordinates (x_min, x_max, y_min, y_max), which may be left
        out if ``x`` and ``y`` are static features.
    static_names : list of str
        Order of the static features in today's layout.
    """

    arrays: Mapping[str, Tensor | Sequence[float]] = field(default_factory=dict)
    static_names: list[str] = field(default_factory=list)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Statistics:
        """Collect the statistics of a reference's dataset."""
        import torch

        found = {
            name: torch.from_numpy(dataset.arrays[name]).double()
            for name in ("static", "xy", *_STORED)
        }
        static, xy = found.pop("static"), found.pop("xy").reshape(-1, 2)
        found["static_min"], found["static_max"] = static.aminmax(dim=0)
        found["extent"] = torch.stack(xy.aminmax(dim=0), dim=1).flatten()
        return cls(found, list(dataset.names["static"]))


@dataclass
class SavedRun:
    """What is migrated from one release to the next.

    Attributes
    ----------
    state_dict : dict of str to Tensor
        Weights and persistent buffers, in the order of the file. These, the
        moments and the graph are `TensorRef` in a run that is read lazily:
        they have a shape and a dtype, and `values` loads them.
    hyper_parameters : dict of str to Any
        Plain data and inert stand-ins (`checkpoints.stand_ins.InertObject`):
        ``args`` stands for an ``argparse.Namespace``, ``config`` for a
        ``neural_lam.config.NeuralLAMConfig``.
    optimizers : list of Optimizer
    graph : dict of str to (Tensor or list of Tensor)
        Contents of the graph directory by file stem, for example
        ``"g2m_edge_index"`` (2, M) and ``"mesh_features"`` list of (N_l, 2).
    graph_format : str
        ``"legacy"``, or the ``spec_version`` of ``metainfo.yaml``.
    grid_shape : tuple of (int, int), optional
        Grid nodes along x and y.
    statistics : Statistics, optional
        None if the file comes without its dataset.
    model_arguments : mapping of str to Any, optional
        What the model is built with, where its file does not say; an argument
        that is missing has its default.
    applied : tuple of str
        Ids of the migrations that were applied, in order.
    stamps : mapping of str to Any
        What the file says itself of its origin, by key: ours and neural-lam's
        (#701).
    stored_types : mapping of (str, str) to str
        Element type in the file by name, and `WEIGHT` or the kind of a
        moment. Empty unless tensors are read lazily.
    """

    state_dict: dict[str, Tensor]
    hyper_parameters: dict[str, Any]
    optimizers: list[Optimizer] = field(default_factory=list)
    graph: dict[str, GraphTensor] = field(default_factory=dict)
    graph_format: str = "legacy"
    grid_shape: tuple[int, int] | None = None
    statistics: Statistics | None = None
    model_arguments: Mapping[str, Any] | None = None
    applied: tuple[str, ...] = ()
    stamps: Mapping[str, Any] = field(default_factory=dict)
    stored_types: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def double(self) -> SavedRun:
        """Cast every floating point tensor to float64.

        Integers keep their type. Folds of a run cast first are exact to
        float64 rounding.
        """
        return self.map_tensors(lambda tensor: _as_double(values(tensor)))

    def with_stored_types(self) -> SavedRun:
        """Note the type of each weight and moment, as it is now."""
        types = {(n, WEIGHT): dtype_name(t) for n, t in self.state_dict.items()}
        for optimizer in self.optimizers:
            for name, kinds in optimizer.moments.items():
                types |= {(name, k): dtype_name(t) for k, t in kinds.items()}
        return replace(self, stored_types=types)

    def cast_back(self) -> SavedRun:
        """Cast what migrations have changed to the types of the file.

        Lazily read tensors are changed in float64, so that several folds of
        one tensor are rounded once, here.
        """

        def cast(name: str, kind: str, tensor: Any) -> Any:
            stored = self.stored_types.get((name, kind))
            if stored is None or isinstance(tensor, TensorRef):
                return tensor
            return tensor.to(dtype_named(stored))

        return replace(
            self,
            state_dict={
                name: cast(name, WEIGHT, tensor)
                for name, tensor in self.state_dict.items()
            },
            optimizers=[each.map_moments(cast) for each in self.optimizers],
        )

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> SavedRun:
        """Return a new run with `function` applied to every tensor."""
        return replace(
            self,
            state_dict={k: function(t) for k, t in self.state_dict.items()},
            optimizers=[
                optimizer.map_moments(lambda name, kind, t: function(t))
                for optimizer in self.optimizers
            ],
            graph={
                stem: [function(t) for t in tensors]
                if isinstance(tensors, list)
                else function(tensors)
                for stem, tensors in self.graph.items()
            },
        )
