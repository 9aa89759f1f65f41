"""Operations on tensors that are still in their file."""

from dataclasses import replace

import pytest
import torch
from saved_runs import everything, saved_run, statistics

from pytest_nlam_compat import migrations
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.migrations import (
    apply,
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.migrations.saved_run import loaded

SHAPES = {"a.weight": (4, 6), "a.bias": (4,), "b.weight": (4, 6)}
STATISTICS = statistics()
STATISTICS.arrays = {
    **STATISTICS.arrays,
    "state_std": torch.tensor([2.0, 3.0, 0.5, 1.5]),
    "state_diff_mean": torch.tensor([0.1, 0.2, 0.0, -0.1]),
    "state_diff_std": torch.tensor([1.0, 0.5, 2.0, 0.7]),
}


def doubled(run):
    weight = run.state_dict["a.weight"]
    return replace(run, state_dict={**run.state_dict, "a.weight": weight * 2})


OPERATIONS = [
    migrations.Add("c", (2, 3), fill=0.5, dtype="bfloat16"),
    migrations.AddIdentity("c", "a"),
    migrations.AddInputBlock("a.weight", count=2),
    migrations.AddInputColumns("a.weight", (1, 3)),
    migrations.CallFunction(doubled),
    migrations.Concatenate(("a.weight", "b.weight"), "c.weight", dim=1),
    migrations.Drop("b"),
    migrations.FoldInputs("a", (2.0, 0.0), (0.5, 1.0), start=-2),
    migrations.FoldMeshPositions("a.weight"),
    migrations.FoldStaticFeatures("a", "raw", "standardised"),
    migrations.PermuteInputBlocks("a.weight", ("x", "y"), ("y", "x")),
    migrations.PermuteInputColumns("a.weight", (2, 0, 1), start=-3),
    migrations.Rename("a", "c"),
    migrations.Reorder("b", before="a"),
    migrations.RepeatInputColumn("a.weight", -2, 3, keep=1),
    migrations.Scale("a.weight", -3.0, columns=(1, 2)),
    migrations.Split("a.weight", {"c": 2, "d": 4}, dim=1),
    migrations.Split("a.weight", ("c", "d"), dim=1),
    migrations.Stack(("a.weight", "b.weight"), "c.weight"),
    migrations.Transpose("a.weight"),
    migrations.NumberFromMinimum(),
    migrations.RelabelGrid("y-major", "x-major"),
    migrations.ReverseEdges("g2m_edge_index"),
    migrations.ShiftNodes("g2m_edge_index", 0, -1),
]


def run():
    grid = torch.arange(6)
    return saved_run(
        SHAPES,
        graph={
            "g2m_edge_index": torch.stack((grid + 2, grid % 2)),
            "m2g_edge_index": torch.stack((grid % 2, grid + 2)),
            "mesh_features": [torch.zeros(2, 2, dtype=torch.float64)],
        },
        grid_shape=(3, 2),
        statistics=STATISTICS,
    )


@pytest.fixture
def in_file(tmp_path):
    """Saves a run, and reads it back without loading its tensors."""
    opened = []

    def in_file(run):
        content = {**to_checkpoint_dict(run), "graph": run.graph}
        content["state_dict"] = run.state_dict
        file = tmp_path / f"{len(opened)}.ckpt"
        torch.save(content, file)
        checkpoint = read_checkpoint(file)
        opened.append(checkpoint)
        return saved_run_from_checkpoint(
            checkpoint.data,
            graph=checkpoint.data["graph"],
            grid_shape=run.grid_shape,
            statistics=run.statistics,
            lazy=True,
        )

    yield in_file
    for checkpoint in opened:
        checkpoint.archive.close()


def check_same(found, expected):
    assert list(everything(found)) == list(everything(expected))
    torch.testing.assert_close(
        everything(found), everything(expected), rtol=0, atol=0
    )
    torch.testing.assert_close(found.graph, expected.graph, rtol=0, atol=0)
    for one, other in zip(found.optimizers, expected.optimizers, strict=True):
        assert (one.names, one.reset) == (other.names, other.reset)


@pytest.mark.parametrize(
    "operation", OPERATIONS, ids=lambda operation: type(operation).__name__
)
def test_the_same_as_on_loaded_tensors(operation, in_file):
    found = operation.apply(in_file(run()))
    check_same(
        found.cast_back().map_tensors(loaded),
        operation.apply(run()),
    )


@pytest.mark.parametrize(
    "operation",
    [
        migrations.Rename("a", "c"),
        migrations.MoveUnder("c"),
        migrations.Drop("b"),
        migrations.Reorder("b", before="a"),
    ],
)
def test_what_only_changes_names_or_order_reads_nothing(operation, in_file):
    new = operation.apply(in_file(run())).cast_back()
    assert {type(t) for t in everything(new).values()} == {TensorRef}


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64"])
def test_several_folds_are_rounded_once_to_the_type_of_the_file(name, in_file):
    dtype = getattr(torch, name)
    old = run().map_tensors(
        lambda t: t.to(dtype) if t.is_floating_point() else t
    )
    # One tensor is of another type than the others.
    old.state_dict["b.weight"] = old.state_dict["b.weight"].float()
    steps = [
        migrations.Migration(str(number), "0.8.0", "", operations=(operation,))
        for number, operation in enumerate(
            (
                migrations.Scale("*.weight", 1 / 3),
                migrations.Rename("b", "d"),
                migrations.Split("a.weight", {"e": 2, "f": 4}, dim=1),
                migrations.Concatenate(("e", "f"), "a.weight", dim=1),
                migrations.Scale("*.weight", 1.1),
            )
        )
    ]
    found = apply(in_file(old), steps).cast_back()
    exact = apply(old.double(), steps)
    for key, tensor in found.map_tensors(loaded).state_dict.items():
        expected = torch.float32 if key == "d.weight" else dtype
        assert tensor.dtype == expected, key
        assert torch.equal(tensor, exact.state_dict[key].to(expected)), key
