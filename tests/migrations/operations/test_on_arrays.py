"""Operations give on arrays, without torch, what they give on its tensors."""

import pytest
import torch
from saved_runs import saved_run

from pytest_nlam_compat import migrations
from pytest_nlam_compat.checkpoints.arrays import Array

SHAPES = {"a.weight": (4, 6), "a.bias": (4,), "b.weight": (4, 6)}

ON_WEIGHTS = [
    migrations.Add("c", (2, 3), fill=0.5, dtype="bfloat16"),
    migrations.AddInputColumns("a.weight", (1, 3)),
    migrations.Cast("a.weight", "bfloat16"),
    migrations.Concatenate(("a.weight", "b.weight"), "c.weight", dim=1),
    migrations.FoldInputs("a", (2.0, 0.0), (0.5, 1.0), start=-2),
    migrations.MoveInputColumns({"a.weight": {4: 1}}),
    migrations.PermuteInputColumns("a.weight", (2, 0, 1), start=-3),
    migrations.RepeatInputColumn("a.weight", -2, 3, keep=1),
    migrations.Reshape("a.weight", (2, -1)),
    migrations.Scale("a.weight", -3.0, columns=(1, 2)),
    migrations.Scale("*.weight", 0.1),
    migrations.Split("a.weight", {"c": 2, "d": 4}, dim=1),
    migrations.Transpose("a.weight"),
]
ON_GRAPHS = [
    migrations.NumberFromMinimum(),
    migrations.RelabelGrid("y-major", "x-major"),
    migrations.ReverseEdges("g2m_edge_index"),
    migrations.ScaleGraphFeatures("mesh_features", -1.0, columns=(1,)),
    migrations.ShiftNodes("g2m_edge_index", 0, -1),
]


def run():
    grid = torch.arange(6)
    return saved_run(
        SHAPES,
        graph={
            "g2m_edge_index": torch.stack((grid + 2, grid % 2)),
            "m2g_edge_index": torch.stack((grid % 2, grid + 2)),
            "mesh_features": [torch.randn(2, 2)],
        },
        grid_shape=(3, 2),
    )


def as_array(tensor):
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Array(tensor.numpy().copy(), dtype, dtype)


def as_tensor(array):
    tensor = torch.from_numpy(array.values.copy())
    return tensor.to(getattr(torch, array.dtype))


@pytest.mark.parametrize("operation", [*ON_WEIGHTS, *ON_GRAPHS], ids=repr)
def test_the_same_on_both(operation):
    tensors = run()
    found = operation.apply(tensors.map_tensors(as_array))
    found = found.map_tensors(as_tensor)
    expected = operation.apply(tensors)
    assert list(found.state_dict) == list(expected.state_dict)
    torch.testing.assert_close(
        dict(found.state_dict), dict(expected.state_dict), rtol=0, atol=1e-15
    )
    torch.testing.assert_close(found.graph, expected.graph, rtol=0, atol=0)
    for one, other in zip(found.optimizers, expected.optimizers, strict=True):
        assert (one.names, one.reset) == (other.names, other.reset)
        torch.testing.assert_close(one.moments, other.moments)


def test_the_statistics_are_folded_alike():
    statistics = {
        name: torch.tensor(values, dtype=torch.float64)
        for name, values in {
            "static_mean": [3.0, -1.0],
            "static_std": [2.0, 0.5],
            "static_min": [0.0, -2.0],
            "static_max": [9.0, 4.0],
            "state_std": [2.0, 3.0, 0.5, 1.5],
            "state_diff_mean": [0.1, 0.2, 0.0, -0.1],
            "state_diff_std": [1.0, 0.5, 2.0, 0.7],
        }.items()
    }
    tensors = run()
    arrays = tensors.map_tensors(as_array)
    names = ["x", "y"]
    tensors.statistics = migrations.Statistics(statistics, names)
    arrays.statistics = migrations.Statistics(
        {name: as_array(tensor) for name, tensor in statistics.items()}, names
    )
    for operation in (
        migrations.FoldStaticFeatures("a", "raw", "standardised"),
        migrations.Rename("b.weight", "output.0.weight", alone=True),
        migrations.Rename("a.bias", "output.0.bias", alone=True),
        migrations.FoldDifferenceStatistics("output"),
        migrations.FoldMeshPositions("a.weight"),
    ):
        tensors, arrays = operation.apply(tensors), operation.apply(arrays)
    found = arrays.map_tensors(as_tensor)
    torch.testing.assert_close(dict(found.state_dict), dict(tensors.state_dict))
    for one, other in zip(found.optimizers, tensors.optimizers, strict=True):
        torch.testing.assert_close(one.moments, other.moments)
