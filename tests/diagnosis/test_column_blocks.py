"""Orders of columns, told by blocks."""

import pytest
import torch

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.diagnosis.column_blocks import by_blocks, in_place
from pytest_nlam_compat.diagnosis.tensor_changes import ColumnChange
from pytest_nlam_compat.migrations import (
    AddInputBlock,
    AddInputColumns,
    FoldInputBlock,
    PermuteInputBlocks,
    SavedRun,
    Statistics,
)

NAMESPACE = GlobalRef("argparse", "Namespace")
W = "p.grid_embedder.0.weight"
STATES = ("prev_state", "prev_prev_state")


def run(width, *, name=W, states=2, static=3, **args):
    return SavedRun(
        {
            name: torch.zeros(4, width),
            "p.output_map.2.bias": torch.zeros(states),
        },
        {"args": InertObject(NAMESPACE, state={"hidden_dim": 7, **args})},
        statistics=Statistics({}, ["x"] * static),
    )


def reordered(*order):
    return ColumnChange("reordered", order)


@pytest.mark.parametrize(
    ("order", "old", "new"),
    [
        ((2, 3, 0, 1, 4, 5, 6, 7), STATES, STATES[::-1]),
        (
            (4, 0, 1, 2, 3, 5, 6, 7),
            (*STATES, "forcing"),
            ("forcing", *STATES),
        ),
        (
            (0, 1, 2, 3, 4, 7, 6, 5),
            (*STATES, "forcing", "static"),
            (*STATES, "forcing", "static[-feature]"),
        ),
    ],
)
def test_the_input_of_the_grid(order, old, new):
    first, *_ = by_blocks(reordered(*order), W.removesuffix(".weight"), run(8))
    assert first == (PermuteInputBlocks(W, old, new),)


def test_windows_of_forcing():
    # Two features at two times, and then the other way round.
    order = (0, 1, 2, 3, 4, 6, 5, 7, 8)
    window = {"num_past_forcing_steps": 1, "num_future_forcing_steps": 0}
    [(operation,), *_] = by_blocks(
        reordered(*order), W.removesuffix(".weight"), run(9, static=1, **window)
    )
    assert operation.new == (*STATES, "forcing[time, feature]")


def test_an_order_that_tears_blocks_apart_is_none_of_blocks():
    torn = reordered(0, 2, 1, 3, 4, 5, 6, 7)
    assert [*by_blocks(torn, W.removesuffix(".weight"), run(8))] == []


def test_a_graph_layer_stands_for_all_of_its_class_first():
    layer = "p.processor.module_0.edge_mlp.0"
    saved = run(6, name=f"{layer}.weight", hidden_dim=2)
    found = [o for [o] in by_blocks(reordered(2, 3, 0, 1, 4, 5), layer, saved)]
    assert [(o.names, o.of) for o in found] == [
        ("**.edge_mlp.**.0.weight", "InteractionNet"),
        ("**.edge_mlp.**.0.weight", None),
        ("p.processor.module_*.edge_mlp.0.weight", None),
        (f"{layer}.weight", None),
    ]
    assert {o.new for o in found} == {("sender", "edge", "receiver")}


def test_units_of_a_whole_block():
    order = tuple(range(8))
    scale, shift = (1.0,) * 5 + (2.0,) * 3, (0.0,) * 5 + (1.0,) * 3
    change = ColumnChange("shifted", order, scale, shift)
    layer = W.removesuffix(".weight")
    assert [*by_blocks(change, layer, run(8))] == [
        (FoldInputBlock(layer, "static", 0.5, -0.5),)
    ]
    scale = (1.0,) * 6 + (2.0,) * 2
    part = ColumnChange("scaled", order, scale, (0.0,) * 8)
    assert [*by_blocks(part, layer, run(8))] == []


def test_where_columns_are_added():
    def added(*columns):
        return in_place(AddInputColumns(W, columns), run(8))

    assert added(8, 9) == AddInputBlock(W, count=2)
    assert added(5) == AddInputBlock(W, "static", 1)
    assert added(6) is None
    assert added(5, 7) is None
