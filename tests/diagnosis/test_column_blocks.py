"""Orders of columns, told by blocks."""

import pytest
import torch

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.diagnosis.column_blocks import (
    by_blocks,
    described,
    in_place,
)
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


def test_a_dataset_without_static_features():
    saved, layer = run(5, static=0), W.removesuffix(".weight")
    [operation] = next(by_blocks(reordered(2, 3, 0, 1, 4), layer, saved))
    assert (operation.old, operation.new) == (STATES, STATES[::-1])
    added = in_place(AddInputColumns(W, (4,)), saved)
    assert added == AddInputBlock(W, "forcing", 1)
    assert in_place(AddInputColumns(W, (3,)), saved) is None


def test_a_dataset_without_forcing():
    layer = W.removesuffix(".weight")
    change = reordered(2, 3, 0, 1, 4, 5, 6)
    [operation] = next(by_blocks(change, layer, run(7)))
    assert (operation.old, operation.new) == (STATES, STATES[::-1])


def test_a_graph_layer_stands_for_all_of_its_class_first():
    layer = "p.processor.module_0.edge_mlp.0"
    saved = run(6, name=f"{layer}.weight", hidden_dim=2)
    found = [o for [o] in by_blocks(reordered(2, 3, 0, 1, 4, 5), layer, saved)]
    assert [(o.names, o.of) for o in found] == [
        ("**.edge_mlp.**.0.weight", "InteractionNet"),
        ("**.edge_mlp.**.0.weight", None),
        (f"{layer}.weight", None),
    ]
    assert {o.new for o in found} == {("sender", "edge", "receiver")}


def test_units_of_a_whole_block():
    order = tuple(range(8))
    scale, shift = (1.0,) * 5 + (2.0,) * 3, (0.0,) * 5 + (1.0,) * 3
    change = ColumnChange("units", order, scale, shift)
    layer = W.removesuffix(".weight")
    assert [*by_blocks(change, layer, run(8))] == [
        (FoldInputBlock(layer, "static", 0.5, -0.5),)
    ]
    scale = (1.0,) * 6 + (2.0,) * 2
    part = ColumnChange("units", order, scale, (0.0,) * 8)
    assert [*by_blocks(part, layer, run(8))] == []


def test_where_columns_are_added():
    def added(*columns):
        return in_place(AddInputColumns(W, columns), run(8))

    assert added(8, 9) == AddInputBlock(W, count=2)
    assert added(5) == AddInputBlock(W, "static", 1)
    assert added(6) is None
    assert added(5, 7) is None


@pytest.mark.parametrize(
    ("width", "order", "new"),
    [
        (3, (1, 2, 0), ("x_offset", "y_offset", "length")),
        (3, (0, 2, 1), ("length", "y_offset", "x_offset")),
        (2, (1, 0), ("y_position", "x_position")),
    ],
)
def test_features_of_edges_and_mesh_nodes_have_names(width, order, new):
    layer = "p.mesh_up_embedders.0.0"
    saved = run(width, name=f"{layer}.weight")
    first, *_ = by_blocks(reordered(*order), layer, saved)
    [operation] = first
    assert operation.new == new
    assert operation.order(saved, f"{layer}.weight") == list(order)


def test_one_more_feature_of_an_edge():
    name = "p.g2m_embedder.0.weight"
    saved = run(3, name=name)
    last = in_place(AddInputColumns(name, (3,)), saved)
    assert last == AddInputBlock(name, count=1)
    first = in_place(AddInputColumns(name, (0,)), saved)
    assert first.before == "length"
    assert first.apply(saved).state_dict[name].shape == (4, 4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            reordered(2, 3, 0, 1, 4, 5, 6, 7),
            "prev_prev_state, prev_state instead of prev_state, "
            "prev_prev_state",
        ),
        (reordered(0, 2, 1, 3, 4, 5, 6, 7), "columns c, b instead of b, c"),
        (
            ColumnChange(
                "units",
                tuple(range(8)),
                (1.0,) * 5 + (2.0,) * 3,
                (0.0,) * 5 + (1.0,) * 3,
            ),
            "static times 2 plus 1",
        ),
        (
            ColumnChange("units", tuple(range(8)), (2.0,) * 8, (0.0,) * 8),
            "all times 2",
        ),
    ],
)
def test_a_change_is_told_by_blocks_or_names(change, text):
    layer = W.removesuffix(".weight")
    assert described(change, layer, run(8), list("abcdefgh")) == text


def test_without_blocks_and_names_columns_are_counted():
    change = reordered(0, 2, 1, 3, 4, 5, 6, 7)
    told = described(change, W.removesuffix(".weight"), run(8), [])
    assert told == "columns 2, 1 instead of 1, 2"


def test_the_direction_of_edges_reversed():
    layer = "p.g2m_embedder.0"
    saved = run(3, name=f"{layer}.weight")
    change = ColumnChange("units", (0, 1, 2), (1.0, -1.0, -1.0), (0.0,) * 3)
    edge = ("length", "x_offset", "y_offset")
    assert next(by_blocks(change, layer, saved)) == tuple(
        FoldInputBlock(layer, block, -1.0, blocks=edge) for block in edge[1:]
    )
