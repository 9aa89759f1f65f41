"""Changes of input columns, told by the blocks that code concatenates.

Numbers of columns fit the models of one width. Blocks have names, and their
widths are counted in each run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, permutations, product
from typing import TYPE_CHECKING

from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.diagnosis.tensor_changes import ColumnChange, unit_text
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import SavedRun
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.operations.blocks import (
    AXES,
    EDGE,
    GRID,
    MESH,
    arranged,
    block_shapes,
    layer_class,
    numbered,
)

if TYPE_CHECKING:
    from torch import Tensor

# What graph layers concatenate, by the MLP that receives it.
_IN_LAYERS = {
    "edge_mlp": ("edge", "sender", "receiver"),
    "aggr_mlp": ("receiver", "aggregate"),
}
_OTHERS = (("first", "second"), ("first", "second", "third"))
# Blocks with as many columns can't be told apart: the plainest are tried.
_MOST = 4


def by_blocks(
    change: ColumnChange, layer: str, run: SavedRun
) -> Iterator[Operations]:
    """Yield operations for a change of the input of a Linear."""
    name = f"{layer}.weight"
    if name not in run.state_dict:
        return
    for blocks in layouts(run, name):
        if change.kind == "reordered":
            for order in (change.order, *change.others):
                yield from _permuted(order, blocks, run, name)
        elif change.kind == "units":
            yield from _folded(change, layer, blocks, run)


def described(
    change: ColumnChange, layer: str, run: SavedRun, labels: Sequence[str]
) -> str:
    """Tell a change of columns by blocks, else by labels or numbers."""
    texts = []
    for each in next(by_blocks(change, layer, run), ()):
        if isinstance(each, op.PermuteInputBlocks):
            was, now = ", ".join(each.old), ", ".join(each.new)
            texts.append(f"{now} instead of {was}")
        elif isinstance(each, op.FoldInputBlock):
            unit = unit_text(1 / each.scale, -each.shift / each.scale)
            texts.append(f"{each.block} {unit}")
    return "; ".join(texts) or change.described(labels)


def layouts(run: SavedRun, name: str) -> Iterator[tuple[str, ...]]:
    """Yield the blocks that may make up the columns of a weight."""
    inner = next((s for s in name.split(".") if s in _IN_LAYERS), None)
    known = (_IN_LAYERS[inner],) if inner else (GRID, EDGE, MESH, *_OTHERS)
    for blocks in known:
        try:
            _block_columns(blocks, run, name)
        except CompatError:
            continue
        yield blocks


def in_place(
    operation: op.AddInputColumns, run: SavedRun
) -> op.AddInputBlock | None:
    """Say by blocks where columns were added, if that can be said."""
    name, columns = operation.names, operation.columns
    weight = run.state_dict.get(name)
    first, count = columns[0], len(columns)
    if weight is None or columns != tuple(range(first, first + count)):
        return None
    for blocks in layouts(run, name):
        if first == weight.shape[1]:
            return op.AddInputBlock(name, count=count)
        found = _block_columns(blocks, run, name)
        for block, there in found.items():
            if there.numel() and there.flatten()[0] == first:
                return op.AddInputBlock(name, block, count, blocks)
    return None


def _block_columns(
    blocks: tuple[str, ...], run: SavedRun, name: str
) -> Mapping[str, Tensor]:
    """Count the columns of blocks that make up a weight, or refuse."""
    operation = op.PermuteInputBlocks(name, blocks, blocks)
    shapes = block_shapes(operation, run, name, blocks)
    return dict(zip(blocks, numbered(shapes), strict=True))


def _permuted(
    order: Sequence[int], blocks: tuple[str, ...], run: SavedRun, name: str
) -> Iterator[Operations]:
    columns = _block_columns(blocks, run, name)
    entries = {
        tuple(arranged(entry, columns)): entry
        # The plainest last: they replace others that come to the same.
        for block in blocks[::-1]
        for entry in [*_arrangements(block, columns[block])][::-1]
    }
    # A dataset may have no forcing or no static features: they stay in place.
    empty = [block for block in blocks if not columns[block].numel()]
    found = _sequences(tuple(order), entries, len(blocks) - len(empty))
    for new in islice(found, _MOST):
        old = list(blocks)
        kept = list(new)
        for block in empty:
            kept.insert(blocks.index(block), block)
        # What stays at the end of the grid's input need not be known.
        while blocks == GRID and old and old[-1] == kept[-1]:
            del old[-1], kept[-1]
        for pattern, of in _places(run, name):
            yield (
                op.PermuteInputBlocks(pattern, tuple(old), tuple(kept), of=of),
            )


def _arrangements(block: str, columns: Tensor) -> Iterator[str]:
    """Yield a block as it is, in reverse, or along other axes first."""
    yield block
    axes = AXES[: columns.dim()]
    for order in permutations(axes):
        for signs in product(("", "-"), repeat=len(axes)):
            signed = map("".join, zip(signs, order, strict=True))
            yield f"{block}[{', '.join(signed)}]"


def _sequences(
    left: tuple[int, ...], entries: Mapping[tuple[int, ...], str], count: int
) -> Iterator[tuple[str, ...]]:
    """Yield the entries whose columns, one after another, are those given."""
    if not left and not count:
        yield ()
    for columns, entry in entries.items():
        if columns and left[: len(columns)] == columns:
            for rest in _sequences(left[len(columns) :], entries, count - 1):
                yield (entry, *rest)


def _places(run: SavedRun, name: str) -> Iterator[tuple[str, str | None]]:
    """Yield names of weights of one place, and the class of their layer."""
    segments = name.split(".")
    inner = next((s for s in segments if s in _IN_LAYERS), None)
    if inner is not None:
        everywhere = f"**.{inner}.**.{'.'.join(segments[-2:])}"
        yield everywhere, layer_class(run, name)
        yield everywhere, None
    yield name, None


def _folded(
    change: ColumnChange, layer: str, blocks: tuple[str, ...], run: SavedRun
) -> Iterator[Operations]:
    """Fold the units of blocks that changed as a whole."""
    folds: list[op.Operation] = []
    if change.factor is not None:
        # Told in one word.
        return
    columns = _block_columns(blocks, run, f"{layer}.weight")
    for block, there in columns.items():
        places = there.flatten().tolist()
        units = {(change.scale[i], change.shift[i]) for i in places}
        if len(units) > 1:
            return
        if units and units != {(1.0, 0.0)}:
            [(factor, shift)] = units
            old = 1 / factor, -shift / factor
            folds.append(op.FoldInputBlock(layer, block, *old, blocks=blocks))
    if folds:
        yield tuple(folds)
