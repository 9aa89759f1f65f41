import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inverses import inverse
from saved_runs import graphs_equal, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    NumberFromMinimum,
    RelabelGrid,
    ReverseEdges,
    ShiftNodes,
)

MESH = 5  # 3 nodes on the lower level, 2 above
NX, NY = 3, 2


def edges(*pairs):
    return torch.tensor(pairs).T.contiguous()


def graph_run(first_grid_node=0, graph_format="legacy", **more):
    """Graph in the legacy numbering, mesh nodes of all levels first."""
    first = MESH if graph_format == "legacy" else 0
    grid = torch.arange(NX * NY)
    graph = {
        "g2m_edge_index": torch.stack(
            (
                grid[first_grid_node:] + first,
                grid[first_grid_node:] % 3,
            )
        ),
        "m2g_edge_index": torch.stack((grid % 3, grid + first)),
        "mesh_features": [torch.zeros(3, 2), torch.zeros(2, 2)],
        "mesh_up_features": [torch.ones(4, 3)],
    }
    return saved_run(
        {"w": (1,)},
        graph=graph,
        graph_format=graph_format,
        grid_shape=(NX, NY),
        **more,
    )


def as_interaction_net_did(edge_index):
    """0.5.0 interaction_net.py:56, before it puts senders after receivers."""
    return edge_index - edge_index.min(dim=1, keepdim=True)[0]


def as_load_graph_does(run, stem):
    """0.7.0 utils/graph.py, zero_index_g2m and zero_index_m2g."""
    edge_index = run.graph[stem].clone()
    if run.graph_format != "legacy":
        return edge_index
    m2g = run.graph["m2g_edge_index"].min(dim=1)[0]
    assert m2g[0] < m2g[1], "the loader sees that mesh nodes come first"
    grid = 0 if stem == "g2m_edge_index" else 1
    edge_index[grid] -= sum(len(level) for level in run.graph["mesh_features"])
    return edge_index


@given(
    st.integers(0, 5),
    st.sampled_from(["legacy", "0.1.0"]),
    st.integers(0, 4),
    st.integers(0, 9),
)
def test_new_loaders_give_the_old_numbers_of_any_legacy_layout(
    first, graph_format, mesh_shift, grid_shift
):
    """Grid first, mesh first, or each from 0: the old class took them all."""
    run = graph_run(first, graph_format)
    run.graph["g2m_edge_index"] += torch.tensor([[grid_shift], [mesh_shift]])
    run.graph["m2g_edge_index"] += torch.tensor([[mesh_shift], [grid_shift]])
    new = NumberFromMinimum().apply(run)
    for stem in ("g2m_edge_index", "m2g_edge_index"):
        assert torch.equal(
            as_load_graph_does(new, stem),
            as_interaction_net_did(run.graph[stem]),
        )
    assert graphs_equal(NumberFromMinimum().apply(new), new)


def test_a_graph_on_which_the_shift_does_not_bite_stays_as_it_is():
    run = graph_run(0)
    assert graphs_equal(NumberFromMinimum().apply(run), run)


def test_senders_are_shifted_by_the_first_node_that_has_an_edge():
    run = graph_run(2)
    new = NumberFromMinimum().apply(run)
    shift = run.graph["g2m_edge_index"] - new.graph["g2m_edge_index"]
    assert shift.tolist() == [[2] * 4, [0] * 4]
    assert torch.equal(new.graph["m2g_edge_index"], run.graph["m2g_edge_index"])


def test_mesh_senders_are_shifted_where_mesh_node_0_has_no_edge():
    run = graph_run()
    run.graph["m2g_edge_index"][0] = 1 + torch.arange(NX * NY) % 2
    new = NumberFromMinimum().apply(run)
    shift = run.graph["m2g_edge_index"] - new.graph["m2g_edge_index"]
    assert shift.tolist() == [[1] * 6, [0] * 6]


def test_the_tensors_given_stay_as_they_are():
    run, untouched = graph_run(2), graph_run(2)
    for operation in (
        NumberFromMinimum(),
        RelabelGrid("y-major", "x-major"),
        ShiftNodes("g2m_edge_index", 0, 1),
        ReverseEdges("g2m_edge_index"),
    ):
        operation.apply(run)
        assert graphs_equal(run, untouched)


def test_a_run_without_its_graph_is_an_error():
    run = dataclasses.replace(graph_run(), graph={})
    with pytest.raises(CompatError) as caught:
        NumberFromMinimum().apply(run)
    assert str(caught.value) == (
        "The saved run comes without g2m_edge_index.pt of its graph.\n"
        "  operation: NumberFromMinimum()\n"
        "  found: no graph files\n"
        "Pass the graph directory that the run was trained with."
    )


def test_a_file_that_holds_something_else_is_an_error():
    run = graph_run()
    run.graph["mesh_features"] = torch.zeros(3, 2)
    with pytest.raises(CompatError, match="instead of a list by level"):
        NumberFromMinimum().apply(run)
    run.graph["m2g_edge_index"] = [torch.zeros(2, 2)]
    with pytest.raises(CompatError, match="instead of one"):
        NumberFromMinimum().apply(run)


@pytest.mark.parametrize("graph_format", ["legacy", "0.1.0"])
def test_grid_nodes_keep_their_place_in_another_order(graph_format):
    run = graph_run(graph_format=graph_format)
    first = MESH if graph_format == "legacy" else 0
    new = RelabelGrid("y-major", "x-major").apply(run)
    x_major = [ix * NY + iy for iy in range(NY) for ix in range(NX)]
    for stem, row in (("g2m_edge_index", 0), ("m2g_edge_index", 1)):
        assert (new.graph[stem][row] - first).tolist() == x_major
        assert torch.equal(new.graph[stem][1 - row], run.graph[stem][1 - row])


@given(st.integers(1, 6), st.integers(1, 6))
def test_relabelling_is_injective_and_its_inverse_gives_the_graph_back(nx, ny):
    grid = torch.arange(nx * ny)
    run = dataclasses.replace(
        graph_run(),
        grid_shape=(nx, ny),
        graph={
            "g2m_edge_index": torch.stack((grid + 2, grid % 2)),
            "m2g_edge_index": torch.stack((grid % 2, grid + 2)),
            "mesh_features": [torch.zeros(2, 2)],
        },
    )
    operation = RelabelGrid("x-major", "y-major")
    new = operation.apply(run)
    ids = new.graph["g2m_edge_index"][0]
    assert sorted(ids.tolist()) == (grid + 2).tolist()
    assert graphs_equal(inverse(operation).apply(new), run)


def test_relabelling_without_a_grid_is_an_error():
    run = dataclasses.replace(graph_run(), grid_shape=None)
    with pytest.raises(CompatError) as caught:
        RelabelGrid("y-major", "x-major").apply(run)
    assert str(caught.value) == (
        "The saved run comes without the shape of its grid.\n"
        "  operation: RelabelGrid('y-major', 'x-major')\n"
        "Pass the dataset that it was trained on."
    )


def test_nodes_off_the_grid_are_an_error():
    run = dataclasses.replace(graph_run(), grid_shape=(2, 2))
    with pytest.raises(CompatError) as caught:
        RelabelGrid("y-major", "x-major").apply(run)
    assert str(caught.value) == (
        "The graph has nodes off the grid of 4.\n"
        "  operation: RelabelGrid('y-major', 'x-major')\n"
        "  ids: 0 to 5\n"
        "Pass the dataset and the graph of the same run."
    )


def test_an_order_that_nobody_had_is_refused():
    with pytest.raises(ValueError, match="Not two of"):
        RelabelGrid("x-major", "x-major")


def test_ids_are_shifted_and_back():
    run = graph_run()
    operation = ShiftNodes("g2m_edge_index", 0, -MESH)
    new = operation.apply(run)
    assert new.graph["g2m_edge_index"][0].tolist() == list(range(6))
    assert graphs_equal(inverse(operation).apply(new), run)


def test_a_negative_id_is_an_error():
    with pytest.raises(CompatError) as caught:
        ShiftNodes("g2m_edge_index", 0, -6).apply(graph_run())
    assert str(caught.value) == (
        "A node of g2m_edge_index.pt would have a negative id.\n"
        "  operation: ShiftNodes('g2m_edge_index', 0, -6)\n"
        "  lowest: 5\n"
        "Correct the shift."
    )


def test_edges_are_reversed_and_back():
    run = graph_run()
    new = ReverseEdges("g2m_edge_index").apply(run)
    assert torch.equal(
        new.graph["g2m_edge_index"][0], run.graph["g2m_edge_index"][1]
    )
    assert graphs_equal(ReverseEdges("g2m_edge_index").apply(new), run)


def test_a_plain_state_dict_has_no_graph():
    weights = graph_run().state_dict
    assert NumberFromMinimum()(weights) == weights
    assert RelabelGrid("y-major", "x-major")(weights) == weights
