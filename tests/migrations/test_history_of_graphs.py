"""The steps of the history that are about the graph."""

import dataclasses

import pytest
import torch
from releases import (
    MESH,
    OLD_NODE,
    graph,
    random,
    raw_data,
    run_of,
    senders,
    statistics,
    to,
)
from saved_runs import saved_run

from pytest_nlam_compat.errors import CompatError


@pytest.fixture
def data():
    return raw_data()


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
@pytest.mark.parametrize("first_node", [0, 1, 2])
def test_old_edges_lead_to_the_nodes_that_they_led_to(
    release, first_node, data
):
    run = run_of(release, data, first_node)
    # Up to 0.5 nodes counted from the first with an edge, in the old order.
    g2m = run.graph["g2m_edge_index"]
    felt = g2m[0] - g2m[0].min()
    new = to("0.7.0", release, run)
    assert torch.equal(OLD_NODE[senders(new)], felt)
    receivers = new.graph["m2g_edge_index"][1] - MESH
    assert torch.equal(
        OLD_NODE[receivers], run.graph["m2g_edge_index"][1] - MESH
    )


@pytest.mark.parametrize("release", ["0.3.0", "0.4.0", "0.5.0"])
def test_nodes_count_from_the_first_with_an_edge_up_to_v05(release, data):
    run = run_of(release, data, first_node=2)
    new = to("0.7.0", release, run)
    assert torch.equal(senders(new), senders(run) - 2)


def test_nodes_of_v06_stay(data):
    run = run_of("0.6.0", data, first_node=2)
    new = to("0.7.0", "0.6.0", run)
    assert torch.equal(senders(new), senders(run))


@pytest.mark.parametrize("first_node", [0, 1, 2])
def test_v03_to_v05_number_the_nodes_of_an_older_run_right(first_node, data):
    """They count from the first node with an edge, and find it at 0."""
    new = to("0.5.0", "0.2.0", run_of("0.2.0", data, first_node))
    assert senders(new).min() == 0


def test_an_original_graph_needs_no_weights_changed(data):
    run = run_of("0.5.0", data)
    assert to("0.7.0", "0.5.0", run).applied == (
        "0.6.0-first-nodes",
        "0.6.0-animation",
        "0.7.0-forecaster",
    )


def test_a_graph_created_anew_has_positions_in_other_units(data):
    run = dataclasses.replace(run_of("0.6.0", data), graph_format="0.1.0")
    new = to("0.7.0", "0.6.0", run)
    assert new.applied == ("0.7.0-regenerated-flat-graph", "0.7.0-forecaster")
    low, high = data["static"].min(0)[0][2:], data["static"].max(0)[0][2:]
    largest = data["static"][:, 2:].abs().max()
    position = random(4, 2)
    name = "mesh_embedder.0.weight"
    torch.testing.assert_close(
        position
        / (high - low).max()
        @ new.state_dict[f"forecaster.predictor.{name}"].T,
        position / largest @ run.state_dict[name].T,
    )


def test_a_hierarchical_one_has_up_edges_of_the_other_sign(data):
    shapes = {"mesh_embedders.0.0.weight": (2, 2)}
    up = "mesh_up_embedders.0.0.weight"
    run = saved_run(
        shapes | {up: (2, 3)},
        statistics=statistics(data),
        graph=graph(0),
        graph_format="0.1.0",
    )
    new = to("0.7.0", "0.6.0", run)
    torch.testing.assert_close(
        new.state_dict[f"forecaster.predictor.{up}"],
        run.state_dict[up] * torch.tensor([1.0, -1.0, -1.0]),
    )


@pytest.mark.parametrize("release", ["0.2.0", "0.4.0"])
def test_an_older_run_needs_its_original_graph(release, data):
    run = dataclasses.replace(run_of(release, data), graph_format="0.1.0")
    with pytest.raises(CompatError) as caught:
        to("0.7.0", release, run)
    assert str(caught.value).startswith(
        "The graph was created again, and is not the one that this run was "
        "trained with.\n"
        "  migration: 0.5.0-original-graph\n"
    )
