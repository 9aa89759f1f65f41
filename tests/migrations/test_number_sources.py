"""Where the numbers of a migrated run come from."""

import dataclasses

import pytest
import torch
from saved_runs import saved_run

from pytest_nlam_compat.migrations import (
    Add,
    CallFunction,
    Concatenate,
    Drop,
    FoldInputs,
    Migration,
    MoveUnder,
    PermuteInputColumns,
    Rename,
    RepeatInputColumn,
    Scale,
    Split,
    Transpose,
)
from pytest_nlam_compat.migrations.number_sources import (
    COMPUTED,
    number_sources,
)

# Indices: a.w 0 to 5, a.b 6 and 7, c.w 8 to 11.
SHAPES = {"a.w": (2, 3), "a.b": (2,), "c.w": (2, 2)}


@pytest.fixture
def found():
    def after(*operations):
        steps = [Migration("s", "0.8.0", "Why.", operations)]
        result = number_sources(saved_run(SHAPES), steps)
        return {name: p.tolist() for name, p in result.indices.items()}, {
            name: reset.tolist() for name, reset in result.reset.items()
        }

    return after


def test_without_steps_each_is_where_it_was(found):
    assert found() == (
        {
            "a.w": [[0, 1, 2], [3, 4, 5]],
            "a.b": [6, 7],
            "c.w": [[8, 9], [10, 11]],
        },
        {},
    )


def test_names_are_followed_in_any_order(found):
    indices, _ = found(Rename("c", "a.new"), MoveUnder("top"), Drop("top.a.b"))
    assert indices == {
        "top.a.w": [[0, 1, 2], [3, 4, 5]],
        "top.a.new.w": [[8, 9], [10, 11]],
    }


def test_columns_and_dimensions_are_followed(found):
    indices, _ = found(PermuteInputColumns("a.w", (1, 2, 0)), Transpose("c.w"))
    assert indices["a.w"] == [[1, 2, 0], [4, 5, 3]]
    assert indices["c.w"] == [[8, 10], [9, 11]]


def test_pieces_are_followed(found):
    indices, _ = found(
        Split("a.w", {"left": 1, "right": 2}, dim=1),
        Concatenate(("c.w", "right"), "joined", dim=1),
    )
    assert indices["left"] == [[0], [3]]
    assert indices["joined"] == [[8, 9, 1, 2], [10, 11, 4, 5]]


def test_what_is_new_or_scaled_is_computed(found):
    indices, _ = found(
        Add("n", (2,), fill=1.0),
        Scale("a.w", 2.0, columns=(1,)),
        RepeatInputColumn("c.w", 0, 2, keep=1),
    )
    assert indices["n"] == [COMPUTED] * 2
    assert indices["a.w"] == [[0, COMPUTED, 2], [3, COMPUTED, 5]]
    assert indices["c.w"] == [[COMPUTED, 8, 9], [COMPUTED, 10, 11]]


def test_a_fold_is_computed_where_it_changes_something():
    run = saved_run({"l.weight": (2, 3), "l.bias": (2,)})
    fold = FoldInputs("l", (1.0, 3.0), (0.0, 0.5), start=1)
    steps = [Migration("s", "0.8.0", "Why.", (fold,))]
    result = number_sources(run, steps)
    assert result.indices["l.weight"].tolist() == [
        [0, 1, COMPUTED],
        [3, 4, COMPUTED],
    ]
    assert result.indices["l.bias"].tolist() == [COMPUTED] * 2
    assert result.reset["l.weight"][:, [0, 2]].tolist() == [[False, True]] * 2


def test_an_offset_alone_resets_moments_of_weights_that_stay():
    run = saved_run({"l.weight": (1, 2), "l.bias": (1,)})
    fold = FoldInputs("l", (1.0,), (0.5,))
    steps = [Migration("s", "0.8.0", "Why.", (fold,))]
    result = number_sources(run, steps)
    assert result.indices["l.weight"].tolist() == [[0, 1]]
    assert result.reset["l.weight"].tolist() == [[True, False]]


def forget_moments(run):
    """Rename the weights only, as no operation does."""
    weights = {
        {"a.w": "b.w"}.get(name, name): t for name, t in run.state_dict.items()
    }
    [optimizer] = run.optimizers
    names = [{"a.w": "b.w"}.get(name, name) for name in optimizer.names]
    return dataclasses.replace(
        run,
        state_dict=weights,
        optimizers=[dataclasses.replace(optimizer, names=names)],
    )


def test_moments_that_nobody_has_reset_are_no_excuse(found):
    indices, reset = found(CallFunction(forget_moments))
    assert indices["b.w"] == [[0, 1, 2], [3, 4, 5]]
    assert reset == {}


def test_a_parameter_without_moments_is_followed_all_the_same():
    run = saved_run(SHAPES)
    del run.optimizers[0].moments["c.w"]
    steps = [Migration("s", "0.8.0", "Why.", (Rename("c", "d"),))]
    assert number_sources(run, steps).indices["d.w"].tolist() == [
        [8, 9],
        [10, 11],
    ]


def test_the_run_is_left_alone():
    run = saved_run(SHAPES)
    before = {name: t.clone() for name, t in run.state_dict.items()}
    number_sources(run, [])
    assert all(torch.equal(run.state_dict[n], t) for n, t in before.items())
