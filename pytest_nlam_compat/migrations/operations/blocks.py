"""Operations on blocks of input columns, for models of every width.

Code concatenates inputs: the states, forcing and static features for the grid,
hidden vectors in a graph layer. How wide each is depends on the dataset and on
the hidden dimension. These operations name the blocks, and count their columns
in the run that they are applied to.

The blocks of the grid are those of `GRID`. The features of edges and of mesh
nodes, `EDGE` and `MESH`, are a column each. Blocks of any other name are hidden
vectors, all of one width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.operations.columns import (
    width_of,
    with_zeros,
)
from pytest_nlam_compat.migrations.operations.dataset_folds import (
    statistics_of,
)
from pytest_nlam_compat.migrations.operations.folds import fold_inputs
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    hyper_parameter,
)
from pytest_nlam_compat.migrations.operations.tensors import OnTensors
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor

GRID = ("prev_state", "prev_prev_state", "forcing", "static")
"""What neural-lam concatenates for the grid embedder since v0.3.0."""
EDGE = ("length", "x_offset", "y_offset")
"""Features of an edge, which its embedder receives."""
MESH = ("x_position", "y_position")
"""Features of a mesh node."""
AXES = ("feature", "time")
"""Of the columns of a block; forcing alone has a window of times."""

_ENTRY = re.compile(r"(?P<name>\w+)(?:\[(?P<axes>-?\w+(?:, -?\w+)*)\])?")
_OUTPUT = re.compile(r"(?:^|\.)output_map\.(\d+)\.bias$")
# Classes of graph layers since 0.7: of those in Graph-EFM that have no choice,
# and the arguments that say it of others. The rest are interaction networks.
_ALWAYS = {
    "encoder.mesh_up_gnns": "PropagationNet",
    "prior_model.mesh_up_gnns": "PropagationNet",
    "decoder.mesh_up_gnns": "InteractionNet",
    "decoder.mesh_down_gnns": "PropagationNet",
}
_CLASS_ARGUMENTS = {
    "g2m_gnn": "g2m_gnn_type",
    "m2g_gnn": "m2g_gnn_type",
    "mesh_init_gnns": "mesh_up_gnn_type",
    "mesh_up_gnns": "mesh_up_gnn_type",
    "mesh_read_gnns": "mesh_down_gnn_type",
    "mesh_down_gnns": "mesh_down_gnn_type",
}
_GRAPH_LAYER = "InteractionNet"


def block_shapes(
    operation: Operation, run: SavedRun, name: str, blocks: Sequence[str]
) -> list[tuple[int, ...]]:
    """Count the columns of blocks in a weight, by `AXES`, from its first on.

    Raises
    ------
    CompatError
        The run does not tell how wide they are, or the weight is of another
        width.
    """
    width = width_of(operation, name, run.state_dict[name])
    for features in (EDGE, MESH):
        if set(blocks) <= set(features):
            if width != len(features):
                raise _misfit(operation, name, width)
            return [(1,)] * len(blocks)
    if not set(blocks) <= set(GRID):
        share, rest = divmod(width, len(blocks))
        hidden = hyper_parameter(run, "args.hidden_dim")
        if rest or hidden not in (None, share):
            raise _misfit(operation, name, width, hidden_dim=hidden)
        return [(share,)] * len(blocks)
    states = _state_variables(operation, run)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(GRID[:2], (states,))
    if not {"forcing", "static"}.isdisjoint(blocks):
        static = len(statistics_of(operation, run).static_names)
        forcing = width - 2 * states - static
        window = _window(run)
        if forcing < 0 or forcing % window:
            raise _misfit(operation, name, width, states=states, static=static)
        shapes |= {"forcing": (forcing // window, window), "static": (static,)}
    found = [shapes[block] for block in blocks]
    if sum(map(math.prod, found)) > width:
        raise _misfit(operation, name, width, states=states)
    return found


def _misfit(
    operation: Operation, name: str, width: int, **facts: object
) -> CompatError:
    return operation.refuse(
        f"The {width} columns of {name!r} are not these blocks.",
        "Correct the blocks, or the predicate of the migration.",
        **facts,
    )


def _state_variables(operation: Operation, run: SavedRun) -> int:
    """Count the state variables: of the dataset, or of the last layer."""
    if run.statistics is not None and "state_mean" in run.statistics.arrays:
        return len(run.statistics.arrays["state_mean"])
    layers = [
        (int(found.group(1)), tensor.shape[0])
        for name, tensor in run.state_dict.items()
        if (found := _OUTPUT.search(name))
    ]
    if not layers:
        raise operation.refuse(
            "The saved run does not tell how many state variables it has.",
            "Pass the dataset that it was trained on.",
        )
    outputs = max(layers)[1]
    return outputs // 2 if hyper_parameter(run, "args.output_std") else outputs


def _window(run: SavedRun) -> int:
    """Count the times at which forcing is given; 1 without arguments."""
    ends = ("args.num_past_forcing_steps", "args.num_future_forcing_steps")
    return 1 + sum(hyper_parameter(run, path) or 0 for path in ends)


def layer_class(run: SavedRun, name: str) -> str | None:
    """Return the class of the graph layer that holds a weight.

    None if neither the file nor whoever reads it says: Graph-EFM is built
    without ``args``, and saves nothing of what it is built with.
    """
    for module, cls in _ALWAYS.items():
        if f".{module}." in f".{name}":
            return cls
    for segment in name.split("."):
        if segment in _CLASS_ARGUMENTS:
            argument = _CLASS_ARGUMENTS[segment]
            if run.model_arguments is not None:
                return str(run.model_arguments.get(argument, _GRAPH_LAYER))
            if hyper_parameter(run, "args") is None:
                return None
            found = hyper_parameter(run, f"args.{argument}")
            return str(found or _GRAPH_LAYER)
    return _GRAPH_LAYER


@dataclass(repr=False, eq=False)
class PermuteInputBlocks(OnTensors):
    """Put blocks of the input columns of weights into another order.

    Attributes
    ----------
    old, new : tuple of str
        The same blocks, from the first column on; columns after them stay.
        ``"static[-feature]"`` stands for static features in reverse, and
        ``"forcing[time, feature]"`` for forcing time by time, where
        ``"forcing"`` is feature by feature.
    of : str, optional
        Only in graph layers of this class, such as ``"InteractionNet"``. The
        run's own arguments say of which class each is; a run that does not
        say is refused.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    of: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        old, new = (sorted(map(_block, side)) for side in (self.old, self.new))
        if old != new or len(set(old)) < len(old):
            raise ValueError(f"Not the same blocks: {self.old} and {self.new}")
        _need_statistics(self, old)

    def matched(self, run: SavedRun) -> list[str]:
        """List the weights, of graph layers of the class if one is named."""
        names = super().matched(run)
        if self.of is None:
            return names
        classes = {name: layer_class(run, name) for name in names}
        unknown = [name for name, cls in classes.items() if cls is None]
        if unknown:
            raise self.refuse(
                "The saved run does not say of which class its graph layers "
                "are.",
                "Convert it in neural-lam's own loader, which has the model: "
                "nlam-compat suggest --upstream.",
                unknown=join_some(unknown),
            )
        return [name for name in names if classes[name] == self.of]

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Reorder the columns."""
        return tensor[:, self.order(run, name)]

    def order(self, run: SavedRun, name: str) -> list[int]:
        """Return which old column each column of a weight is."""
        blocks = [_block(entry) for entry in self.old]
        shapes = block_shapes(self, run, name, blocks)
        columns = dict(zip(blocks, numbered(shapes), strict=True))
        old, new = (
            [c for entry in side for c in arranged(entry, columns)]
            for side in (self.old, self.new)
        )
        places = {column: place for place, column in enumerate(old)}
        rest = range(len(old), run.state_dict[name].shape[1])
        return [*(places[column] for column in new), *rest]


@dataclass(repr=False, eq=False)
class FoldInputBlock(Operation):
    """Fold a change of units of one block of inputs into a Linear.

    Old input = scale * new input + shift. `blocks` are all up to this one.
    """

    layer: str
    block: str
    scale: float
    shift: float = 0.0
    blocks: tuple[str, ...] = GRID

    def __post_init__(self) -> None:
        if self.block not in self.blocks:
            raise ValueError(f"Not one of {self.blocks}: {self.block!r}")
        _need_statistics(self, self.blocks)

    def apply(self, run: SavedRun) -> SavedRun:
        """Fold into weight, bias and moments."""
        name = f"{self.layer}.weight"
        self.raise_if_missing(run, name)
        columns = _columns_of(self, run, name, self.blocks, self.block)
        return fold_inputs(
            self,
            run,
            self.layer,
            columns.start,
            [self.scale] * len(columns),
            [self.shift] * len(columns),
        )


@dataclass(repr=False, eq=False)
class AddInputBlock(OnTensors):
    """Make room for new inputs before a block, with weights of zero.

    Their moments are zero: they never had a gradient.

    Attributes
    ----------
    before : str, optional
        Block that they stand before; at the end by default.
    count : int
        How many columns are added.
    blocks : tuple of str
        Those that are there, from the first column on.
    """

    before: str | None = None
    count: int = 1
    blocks: tuple[str, ...] = GRID

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.before not in (None, *self.blocks):
            raise ValueError(f"Not one of {self.blocks}: {self.before!r}")
        if self.before is not None:
            _need_statistics(self, self.blocks)

    def image(
        self, run: SavedRun, name: str, tensor: Tensor, power: int
    ) -> Tensor:
        """Put zeros there."""
        place = width_of(self, name, tensor)
        if self.before is not None:
            columns = _columns_of(self, run, name, self.blocks, self.before)
            place = columns.start
        return with_zeros(tensor, range(place, place + self.count))


def _columns_of(
    operation: Operation,
    run: SavedRun,
    name: str,
    blocks: Sequence[str],
    block: str,
) -> range:
    """Return the columns of one of the blocks of a weight."""
    shapes = block_shapes(operation, run, name, blocks)
    place = blocks.index(block)
    start = sum(map(math.prod, shapes[:place]))
    return range(start, start + math.prod(shapes[place]))


def _need_statistics(operation: Operation, blocks: Iterable[str]) -> None:
    # Forcing and static features share what is left after the states.
    if not {"forcing", "static"}.isdisjoint(blocks):
        object.__setattr__(operation, "needs", ("statistics",))


def _block(entry: str) -> str:
    """Return the name of a block that may be said to be arranged."""
    return parsed(entry)[0]


def parsed(entry: str) -> tuple[str, list[str]]:
    """Return the name of a block, and its axes in order."""
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise ValueError(f"Not a block of columns: {entry!r}")
    name, axes = found.groups()
    known = AXES if name == "forcing" else AXES[:1]
    said = axes.split(", ") if axes else list(known)
    if sorted(axis.lstrip("-") for axis in said) != sorted(known):
        raise ValueError(
            f"The axes of {name} are {', '.join(known)}: {entry!r}"
        )
    return name, said


def numbered(shapes: Sequence[tuple[int, ...]]) -> Iterable[Tensor]:
    """Yield the columns of each block, in its shape."""
    import torch

    start = 0
    for shape in shapes:
        size = math.prod(shape)
        yield torch.arange(start, start + size).reshape(shape)
        start += size


def arranged(entry: str, columns: Mapping[str, Tensor]) -> list[int]:
    """List the columns of a block as an entry arranges them."""
    name, axes = parsed(entry)
    places = [AXES.index(axis.lstrip("-")) for axis in axes]
    reverse = [i for i, axis in enumerate(axes) if axis.startswith("-")]
    arranged = columns[name].permute(places).flip(reverse)
    found: list[int] = arranged.flatten().tolist()
    return found
