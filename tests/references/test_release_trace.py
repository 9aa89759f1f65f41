"""The trace of references before 0.4.0."""

from types import SimpleNamespace

import pytest
import torch

from pytest_nlam_compat.references.release_trace import (
    Recorded,
    release_trace,
)

EARLY = [
    f"{release}-{case}"
    for release in ("0.1.0", "0.2.0", "0.3.0")
    for case in ("graph_lam", "hi_lam", "hi_lam_parallel")
]


def recorded_of(tensor, rows):
    kept = tensor[rows]
    values = torch.cat(
        (kept, tensor.sum(0, keepdim=True), tensor.square().sum(0)[None])
    )
    return Recorded("m", 0, "Linear", len(tensor), torch.tensor(rows), values)


@pytest.fixture
def output():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 3, generator=generator, dtype=torch.float64)


def test_equal_outputs(output):
    recorded = recorded_of(output, [0, 9, 19])
    assert recorded.difference(output) == 0
    # The first sample is what was recorded.
    batch = torch.stack((output, output + 1))
    assert recorded.difference(batch) == 0
    assert recorded.difference(batch.flip(0)) > 0.1


@pytest.mark.parametrize("row", [9, 10])
def test_one_entry_shows_by_itself_or_in_the_sums(output, row):
    recorded = recorded_of(output, [0, 9, 19])
    output[row, 1] += 1e-6
    assert 1e-9 < recorded.difference(output) < 1e-5


def test_an_order_shows_in_the_rows(output):
    recorded = recorded_of(output, [0, 9, 19])
    assert recorded.difference(output.flip(0)) > 0.1


def test_another_shape_is_another_output(output):
    recorded = recorded_of(output, [0, 9, 19])
    assert recorded.difference(output[:, :2]) == float("inf")
    assert recorded.difference(output[:19]) == float("inf")
    assert recorded.difference(output * float("nan")) == float("inf")


@pytest.mark.parametrize("name", EARLY)
def test_each_output_that_was_recorded_is_read(reference_of, name):
    reference = reference_of(name)
    found = release_trace(reference)
    assert len(found) == len(reference.group("release_trace"))
    assert {"grid_embedder", "output_map"} <= {one.module for one in found}


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        # 3 x 2: x 1, y 0 was node 1 of y-major, and is node 2 now.
        ("y-major: index = iy*NX + ix", [0, 2, 3, 5]),
        ("x-major: index = ix*NY + iy (features)", [0, 1, 4, 5]),
    ],
)
def test_rows_of_the_grid_are_in_the_order_of_today(order, rows):
    # Recorded grids have odd sides: their first, middle and last node are
    # the same in both orders.
    description = {
        "recorded": {"grid": {"N": 6, "NX": 3, "NY": 2, "node_order": order}},
        "release_trace": {
            "call_order": ["grid", "mesh.out1"],
            "modules": {
                "grid": {"M": 6, "cls": "A", "rows": [0, 1, 4, 5]},
                "mesh.out1": {"M": 9, "cls": "B", "rows": [0, 1, 4, 5]},
            },
        },
    }
    tensors = {"grid": torch.zeros(6, 1), "mesh.out1": torch.zeros(6, 1)}
    early = SimpleNamespace(description=description, group=lambda _: tensors)
    grid, mesh = release_trace(early)
    assert (grid.module, grid.output, grid.kind) == ("grid", 0, "A")
    assert grid.rows.tolist() == rows
    assert (mesh.module, mesh.output, mesh.kind) == ("mesh", 1, "B")
    assert mesh.rows.tolist() == [0, 1, 4, 5]


def test_later_references_have_another_trace(reference_of):
    assert release_trace(reference_of("0.4.0-graph_lam")) == []
