import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    HISTORY,
    HardBreak,
    Migration,
    MoveUnder,
    Rename,
    SetHyperParameter,
    as_callables,
)


def step(*operations, **more):
    return Migration("a", "0.8.0", "Why (#1).", operations, **more)


def test_the_weights_part_of_a_step_is_one_function():
    [found] = as_callables(
        [
            step(
                Rename("a", "b"),
                SetHyperParameter("args.x", 1),
                MoveUnder("top"),
            )
        ]
    )
    weights = {"a.w": torch.zeros(1)}
    assert found.apply is not None
    assert found.apply(weights) == {"top.b.w": weights["a.w"]}
    assert list(weights) == ["a.w"]
    assert found.description == "a: Why (#1)."
    assert not found.hard_break


def test_a_step_without_a_part_on_weights_is_left_out():
    assert as_callables([step(SetHyperParameter("args.x", 1))]) == []


def test_a_hard_break_has_no_function():
    [found] = as_callables([step(HardBreak("Gone.", "Train again."))])
    assert found == ("a: Why (#1).", None, True)


def test_a_step_that_needs_more_than_weights_is_an_error():
    with pytest.raises(CompatError) as caught:
        as_callables(HISTORY)
    assert str(caught.value) == (
        "The migration '0.3.0-static-units' needs more than a state_dict.\n"
        "  needs: statistics\n"
        "Leave it to pytest-nlam-compat, and add a hard break to neural-lam's "
        "registry."
    )


def test_the_prefix_of_0_7_is_what_upstream_does_too():
    [found] = as_callables([HISTORY[-1]])
    assert found.apply is not None
    assert list(found.apply({"g2m_gnn.w": torch.zeros(1)})) == [
        "forecaster.predictor.g2m_gnn.w"
    ]
