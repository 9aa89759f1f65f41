"""Folds, judged by what a Linear computes and by gradients of torch itself."""

import pytest
import torch
from gradients import agrees, data, doubles, start, trained
from hypothesis import given
from hypothesis import strategies as st
from saved_runs import moment
from torch import nn

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    FoldInputs,
    PermuteInputColumns,
    RepeatInputColumn,
    Scale,
)

FINITE = st.floats(-4, 4).filter(lambda x: abs(x) > 0.1)


@given(st.lists(FINITE, min_size=2, max_size=2), st.integers(0, 2))
def test_a_scale_of_inputs_carries_both_moments(scale, first):
    old = data(4)
    new = old.clone()
    new[..., first : first + 2] /= doubles(scale)
    run = trained(start(3, 4), old)
    folded = FoldInputs("l.0", tuple(scale), (0.0, 0.0), first).apply(run)
    agrees(folded, trained(folded.state_dict, new))
    assert folded.optimizers[0].reset == {}
    assert torch.allclose(
        nn.functional.linear(new, *folded.state_dict.values()),
        nn.functional.linear(old, *run.state_dict.values()),
    )


@given(
    st.lists(FINITE, min_size=2, max_size=2),
    st.lists(FINITE, min_size=2, max_size=2),
)
def test_an_offset_carries_the_first_moment_and_bounds_the_second(scale, shift):
    old = data(4)
    new = old.clone()
    new[..., 2:] = (old[..., 2:] - doubles(shift)) / doubles(scale)
    run = trained(start(3, 4), old)
    folded = FoldInputs("l.0", tuple(scale), tuple(shift), -2).apply(run)
    expected = trained(folded.state_dict, new)
    agrees(folded, expected, second=False)
    bound = moment(folded, "l.0.weight", "exp_avg_sq")
    true = moment(expected, "l.0.weight", "exp_avg_sq")
    torch.testing.assert_close(bound[:, :2], true[:, :2])
    assert (bound[:, 2:] >= true[:, 2:] * (1 - 1e-9)).all()
    torch.testing.assert_close(
        moment(folded, "l.0.bias", "exp_avg_sq"),
        moment(expected, "l.0.bias", "exp_avg_sq"),
    )
    assert folded.optimizers[0].reset == {
        f"l.0.weight.{kind}": (
            "columns 2, 3: no exact image under an offset of the input, set "
            "to its upper bound"
        )
        for kind in ("exp_avg_sq", "max_exp_avg_sq")
    }


def test_an_input_that_became_constant_has_no_weight_and_no_gradient():
    old = data(2)
    old[..., 1] = 3.0
    new = old.clone()
    new[..., 1] = 0.0
    run = trained(start(3, 2), old)
    folded = FoldInputs("l.0", (1.0, 0.0), (0.0, 3.0)).apply(run)
    agrees(folded, trained(folded.state_dict, new))
    assert folded.optimizers[0].reset == {}


def test_the_moments_of_moved_scaled_and_repeated_columns_are_those_of_torch():
    old = data(4)
    run = trained(start(3, 4), old)
    for operation, new in (
        (
            PermuteInputColumns("l.*.weight", (2, 0, 3, 1)),
            old[..., [2, 0, 3, 1]],
        ),
        (RepeatInputColumn("l.0.weight", 1, 2), old[..., [0, 1, 1, 2, 3]]),
        (Scale("l.0.weight", 5.0), old / 5),
    ):
        image = operation.apply(run)
        agrees(image, trained(image.state_dict, new))


def test_a_layer_without_bias_or_columns_is_an_error():
    run = trained(start(2, 3), data(3))
    with pytest.raises(CompatError, match=r"matches 'l\.1\.weight'"):
        FoldInputs("l.1", (1.0,), (0.0,)).apply(run)
    with pytest.raises(CompatError, match="has 3 columns"):
        FoldInputs("l.0", (1.0,), (0.0,), 3).apply(run)
    del run.state_dict["l.0.bias"]
    with pytest.raises(CompatError, match=r"matches 'l\.0\.bias'"):
        FoldInputs("l.0", (1.0,), (0.0,)).apply(run)


def test_moments_of_the_weight_alone_are_an_error():
    run = trained(start(2, 3), data(3))
    del run.optimizers[0].moments["l.0.bias"]
    with pytest.raises(CompatError, match="only one of weight and bias"):
        FoldInputs("l.0", (1.0,), (0.0,)).apply(run)


def test_a_run_without_moments_is_folded_too():
    run = trained(start(2, 3), data(3))
    run.optimizers[0].moments.clear()
    folded = FoldInputs("l.0", (2.0,), (1.0,)).apply(run)
    assert folded.optimizers[0].moments == {}
    assert folded.optimizers[0].reset == {}


def test_scale_and_shift_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="scale and shift differ in length"):
        FoldInputs("l.0", (1.0,), ())
