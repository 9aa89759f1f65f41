"""The content of real references."""

import datetime

import numpy as np
import pytest
import torch
from listed_releases import RECORDED
from packaging.version import Version

from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.references.reference import (
    MOMENTS,
    SAMPLES,
    read_graph,
    write_graph,
)


@pytest.fixture(scope="module")
def flat(reference_of):
    return reference_of("0.7.0-graph_lam")


@pytest.fixture(scope="module")
def efm(reference_of):
    return reference_of("0.7.0-graph_efm")


def test_it_is_known_by_release_and_case(flat, recorded):
    assert flat.id == "0.7.0-graph_lam"
    assert flat.release == Version("0.7.0")
    assert flat.case == flat.description["case"] == "graph_lam"
    assert recorded("0.7.0").void == {}


def test_void_cases_have_their_reason(recorded):
    reasons = recorded("0.4.0").void
    assert set(reasons) == {"graph_lam-std", "graph_lam-std-clamp"}
    assert set(reasons.values()) == {
        "neural-lam 0.4 can't run output_std: its input dimension is twice "
        "that of its output instead of its state (#147)"
    }


def test_members_are_read_once(flat):
    assert flat.description is flat.description
    assert flat.tensors is flat.tensors
    assert flat.state_dict is flat.state_dict
    assert flat.trace is flat.trace


def test_the_batch_has_the_shapes_that_are_documented(flat):
    samples, steps, nodes, features, window = 2, 3, 54, 4, 3
    init, target, forcing, times = flat.batch()
    assert init.shape == (samples, 2, nodes, features)
    assert target.shape == (samples, steps, nodes, features)
    assert forcing.shape == (samples, steps, nodes, 2 * window)
    assert times.shape == (samples, steps)
    assert {init.dtype, target.dtype, forcing.dtype} == {torch.float64}
    assert times.dtype is torch.int64
    assert flat.sample_indices == [0, 1]
    assert flat.description["samples"] == samples
    assert flat.description["ar_steps"] == steps


def test_the_batch_comes_in_either_precision(flat):
    half = flat.batch(torch.float32)
    assert {tensor.dtype for tensor in half[:3]} == {torch.float32}
    for one, other in zip(half[:3], flat.batch()[:3], strict=True):
        assert torch.equal(one.double(), other)


def test_target_times_follow_the_series(flat):
    *_, times = flat.batch()
    start = datetime.datetime.fromisoformat(flat.description["start"])
    start = start.replace(tzinfo=datetime.timezone.utc)
    hours = (times // 10**9 - int(start.timestamp())) // 3600
    assert hours.tolist() == [[6, 9, 12], [9, 12, 15]]


def test_goldens_are_rollouts_in_both_precisions(flat):
    single, double = flat.group("golden32"), flat.group("golden64")
    assert set(single) == {"prediction"}
    assert set(double) == {"prediction", "loss"}
    assert single["prediction"].shape == double["prediction"].shape
    assert single["prediction"].shape == (2, 3, 54, 4)
    assert single["prediction"].dtype is torch.float32
    assert double["prediction"].dtype is torch.float64
    assert double["loss"].shape == (1,)


def test_a_group_is_what_is_below_a_name(flat):
    assert flat.group("golden") == {}
    assert set(flat.group("resume")) == {"loss", "parameters"}
    assert flat.group("graph_as_fed") == flat.scaled_edge_features == {}


def test_boundary_nodes_keep_their_states(flat):
    """Goldens are of the whole forecast, with the boundary overwritten."""
    _, target, _, _ = flat.batch()
    boundary = torch.from_numpy(flat.dataset.arrays["boundary_mask"]).bool()
    prediction = flat.group("golden64")["prediction"]
    assert torch.equal(prediction[:, :, boundary], target[:, :, boundary])
    assert not torch.equal(prediction, target)


def test_the_dataset(flat):
    dataset = flat.dataset
    assert dataset.grid_shape == (9, 6)
    assert dataset.names == {
        "state": ("t2m", "r2m", "q2m", "u10"),
        "forcing": ("toa_flux", "sst"),
        "static": ("orography", "land_fraction", "boundary"),
    }
    shapes = {name: array.shape for name, array in dataset.arrays.items()}
    assert shapes == {
        "xy": (9, 6, 2),
        "state": (8, 54, 4),
        "forcing": (8, 54, 2),
        "static": (54, 3),
        "boundary_mask": (54,),
        "state_mean": (4,),
        "state_std": (4,),
        "state_diff_mean": (4,),
        "state_diff_std": (4,),
        "forcing_mean": (2,),
        "forcing_std": (2,),
        "static_mean": (3,),
        "static_std": (3,),
    }
    assert (dataset.step_hours, dataset.start) == (3, "2024-01-01T00:00")
    assert set(np.unique(dataset.arrays["boundary_mask"])) == {0, 1}


def test_standardising_the_series_gives_the_batch(flat):
    arrays = flat.dataset.arrays
    series = (arrays["state"] - arrays["state_mean"]) / arrays["state_std"]
    init, target, _, _ = flat.batch(torch.float32)
    for sample in flat.sample_indices:
        assert np.array_equal(series[sample : sample + 2], init[sample])
        assert np.array_equal(series[sample + 2 : sample + 5], target[sample])


def test_noise_is_drawn_in_order(efm, flat):
    assert flat.noise("rollout") == flat.noise("loss") == []
    drawn = efm.noise("rollout")
    assert [tuple(each.shape) for each in drawn] == [(1, 9, 3)] * 3
    for index, each in enumerate(drawn):
        assert torch.equal(each, efm.tensors[f"noise/rollout/{index}"])
    assert len(efm.noise("loss")) == 3


def test_a_model_that_args_cannot_describe(efm, flat):
    assert flat.description["predictor"] is None
    predictor = efm.description["predictor"]
    assert predictor["name"] == efm.description["model"] == "GraphEFM"
    assert predictor["arguments"]["graph_name"] == efm.graph_name
    assert set(efm.group("golden64")) == {
        "loss",
        "posterior_mean",
        "posterior_std",
        "prediction",
    }


def test_the_trace(flat):
    trace = flat.trace
    rows = len(trace.shapes)
    assert trace.rows.shape == (rows, SAMPLES + MOMENTS)
    assert trace.rows.dtype is torch.float64
    assert trace.calls[0].module == "grid_embedder.0"
    assert trace.calls[-1].module == "output_map"
    # Only the first of the three autoregressive steps.
    modules = [call.module for call in trace.calls]
    assert modules.count("output_map") == 1
    for call in trace.calls:
        assert all(row < rows for row in (*call.inputs, *call.outputs))
    for row, moments in trace.columns.items():
        assert moments.shape == (2, trace.shapes[row][-1])


@pytest.mark.parametrize("release", RECORDED)
def test_the_kinds_of_a_trace_have_nothing_random(reference_of, release):
    trace = reference_of(f"{release}-graph_lam").trace
    assert {call.kind for call in trace.calls} == {
        "InteractionNet",
        "LayerNorm",
        "Linear",
        "Sequential",
        "SiLU",
        "SumAggregation",
    }


def test_files_are_written_into_a_folder(flat, recorded, tmp_path):
    path = flat.write(tmp_path / "new")
    assert path == tmp_path / "new" / "checkpoint.ckpt"
    read = recorded("0.7.0").read
    assert path.read_bytes() == read("graph_lam", "checkpoint.ckpt")
    assert {p.name for p in path.parent.iterdir()} == {
        "checkpoint.ckpt",
        "config.yaml",
        "graph",
    }
    graph = flat.graph_folder(path.parent)
    assert graph == tmp_path / "new" / "graph" / "1level"
    assert {p.name for p in graph.iterdir()} == {
        "g2m_edge_index.pt",
        "g2m_features.pt",
        "m2g_edge_index.pt",
        "m2g_features.pt",
        "m2m_edge_index.pt",
        "m2m_features.pt",
        "mesh_features.pt",
        "metainfo.yaml",
    }


@pytest.mark.parametrize(
    ("name", "kind"), [("0.4.0-hi_lam", "legacy"), ("0.7.0-hi_lam", "0.1.0")]
)
def test_a_graph_is_written_as_it_was_read(reference_of, tmp_path, name, kind):
    reference = reference_of(name)
    reference.write(tmp_path)
    folder = reference.graph_folder(tmp_path)
    assert graph_format(folder) == kind
    graph = read_graph(folder)
    # Of each level of the mesh one tensor, of the rest one.
    assert isinstance(graph["mesh_features"], list)
    assert isinstance(graph["g2m_edge_index"], torch.Tensor)
    again = tmp_path / "again" / "hierarchical"
    write_graph(graph, graph_format(folder), again)
    assert graph_format(again) == kind
    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in again.iterdir()} == names
    for stem, tensors in read_graph(again).items():
        assert type(tensors) is type(graph[stem])
        if isinstance(tensors, torch.Tensor):
            tensors, expected = [tensors], [graph[stem]]
        else:
            expected = graph[stem]
        assert all(map(torch.equal, tensors, expected))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("spec_version: 0.1.0\n", "0.1.0"),
        ("made: by hand\nspec_version: '0.2.0'\n", "0.2.0"),
        ('spec_version: "0.1.0"\n', "0.1.0"),
        ("made: by hand\n", "legacy"),
        ("", "legacy"),
    ],
)
def test_the_format_of_a_graph(tmp_path, text, kind):
    (tmp_path / "metainfo.yaml").write_text(text)
    assert graph_format(tmp_path) == kind


def test_edge_features_that_early_releases_received(reference_of):
    received = reference_of("0.3.0-graph_lam").scaled_edge_features
    assert set(received) == {"g2m_features", "m2g_features", "m2m_features"}
    assert received["g2m_features"].shape == (48, 3)
    assert [tuple(level.shape) for level in received["m2m_features"]] == [
        (40, 3)
    ]
