import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inverses import inverse
from saved_runs import moment, same, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import Scale, Transpose

W = "a.0.weight"
SHAPES = {W: (2, 4), "a.0.bias": (2,), "a.1.weight": (2, 4)}


def test_a_scale_divides_the_moments():
    run = saved_run(SHAPES)
    new = Scale("a.*.weight", 4.0).apply(run)
    assert torch.equal(new.state_dict[W], run.state_dict[W] * 4)
    for power, kind in enumerate(("exp_avg", "exp_avg_sq"), start=1):
        assert torch.equal(
            moment(new, W, kind), moment(run, W, kind) / 4**power
        )
    assert moment(new, W, "step") == 2
    assert torch.equal(new.state_dict["a.0.bias"], run.state_dict["a.0.bias"])
    assert not torch.equal(
        new.state_dict["a.1.weight"], run.state_dict["a.1.weight"]
    )


def test_a_scale_of_columns_leaves_the_others():
    run = saved_run(SHAPES)
    new = Scale(W, -1.0, columns=(1, 2)).apply(run)
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0])
    assert torch.equal(new.state_dict[W], run.state_dict[W] * sign)
    assert torch.equal(
        moment(new, W, "exp_avg"), moment(run, W, "exp_avg") * sign
    )
    assert torch.equal(
        moment(new, W, "exp_avg_sq"), moment(run, W, "exp_avg_sq")
    )


def test_a_float32_tensor_is_scaled_in_float64_and_cast_once():
    weight = torch.tensor([0.1, 0.7], dtype=torch.float32)
    scaled = Scale("w", 1 / 3)({"w": weight})["w"]
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, (weight.double() * (1 / 3)).float())


@given(st.integers(-8, 8), st.sampled_from([-1.0, 1.0]))
def test_a_scale_by_a_power_of_two_has_an_inverse(exponent, sign):
    run = saved_run(SHAPES)
    operation = Scale(W, sign * 2.0**exponent, columns=(0, 3))
    assert same(inverse(operation).apply(operation.apply(run)), run)


@pytest.mark.parametrize("factor", [0.0, float("inf"), float("nan")])
def test_a_factor_that_can_not_be_undone_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be finite and not 0"):
        Scale(W, factor)


def test_scaling_a_column_that_is_not_there_is_an_error():
    with pytest.raises(CompatError) as caught:
        Scale(W, 2.0, columns=(4,)).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "'a.0.weight' has 4 columns.\n"
        "  operation: Scale('a.0.weight', 2.0, columns=(4,))\n"
        "  columns: (4,)\n"
        "Correct the columns."
    )


@pytest.mark.parametrize(
    "operation",
    [
        Scale("a.0", 2.0),
        Transpose("b"),
    ],
)
def test_a_pattern_that_names_no_tensor_in_full_is_an_error(operation):
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        operation.apply(saved_run(SHAPES))


def test_a_transpose_turns_the_moments_and_undoes_itself():
    run = saved_run(SHAPES)
    new = Transpose(W).apply(run)
    assert torch.equal(new.state_dict[W], run.state_dict[W].T)
    for kind in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(moment(new, W, kind), moment(run, W, kind).T)
    assert same(Transpose(W).apply(new), run)


def test_a_transpose_of_a_vector_is_an_error():
    with pytest.raises(CompatError) as caught:
        Transpose("a.0.bias").apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "'a.0.bias' has 1 dimensions.\n"
        "  operation: Transpose('a.0.bias')\n"
        "  shape: (2,)\n"
        "Correct the dimension."
    )
