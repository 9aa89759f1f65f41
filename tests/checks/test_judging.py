"""Verdicts on outputs, on a reference whose numbers are easy."""

import pytest
import torch

from pytest_nlam_compat.checks.judging import (
    differences,
    insist_on_outputs,
    judge,
)
from pytest_nlam_compat.errors import CompatError


def moved(tensor, by, place=(0, 1, 2, 1)):
    tensor = tensor.clone()
    tensor[place] += by
    return tensor


@pytest.fixture
def golden64(reference):
    return reference.group("golden64")["prediction"]


@pytest.fixture
def golden32(reference):
    return reference.group("golden32")["prediction"]


def test_equal_outputs_use_nothing_of_the_tolerance(reference, golden64):
    assert judge(reference, {"prediction": golden64}).share == 0


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_float64_may_differ_by_a_billionth_of_the_spread(
    reference, golden64, share
):
    close = judge(reference, {"prediction": moved(golden64, share * 1e-9)})

    assert close.share == pytest.approx(share, rel=1e-3)
    assert close.relative == pytest.approx(share * 1e-9, rel=1e-3)


def test_beyond_that_the_message_says_where_and_by_how_much(
    reference, golden64
):
    with pytest.raises(CompatError) as caught:
        judge(reference, {"prediction": moved(golden64, 0.25)})

    assert str(caught.value) == (
        "0.6.0-small: the current code gives other numbers than neural-lam "
        "0.6.0 did.\n"
        "  compared: prediction, by the row 'float64'\n"
        "  differs most: variable u10, batch item 0, step 1, node 2\n"
        "  obtained: -0.75\n"
        "  expected: -1\n"
        "  allowed: 1.00e-09\n"
        "  difference: 2.50e-01 of the spread of u10, 2.5e+08 times what is "
        "allowed\n"
        "If the change is wanted, its meaning has to be carried over: add a "
        "migration that makes the old weights give the old outputs. If not, "
        "undo it."
    )


def test_float32_is_judged_by_the_noise_of_its_golden(reference, golden32):
    allowed = 10 * 1e-5

    close = judge(reference, {"prediction": moved(golden32, 0.5 * allowed)})
    assert close.share == pytest.approx(0.5, rel=1e-2)

    with pytest.raises(CompatError) as caught:
        judge(reference, {"prediction": moved(golden32, 2 * allowed)})
    facts = caught.value.facts
    assert facts["compared"] == "prediction, by the row 'float32'"
    assert facts["allowed"] == "1.00e-04"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_within_a_tolerance(
    reference, golden64, value
):
    with pytest.raises(CompatError) as caught:
        judge(reference, {"prediction": moved(golden64, value)})

    assert caught.value.facts["obtained"] == str(value)


def test_worst_output_comes_first(reference, golden64):
    found = differences(
        reference,
        {"prediction": golden64, "pred_std": moved(golden64, 1e-12)},
    )

    assert [each.output for each in found] == ["pred_std", "prediction"]


def test_loss_can_be_compared_too(reference):
    judge(reference, {"loss": torch.tensor([4.0]).double()})

    with pytest.raises(CompatError) as caught:
        judge(reference, {"loss": torch.tensor([5.0]).double()})
    assert caught.value.facts["differs most"] == "variable loss"


def test_name_without_a_golden_is_refused_with_those_there_are(
    reference, golden64
):
    with pytest.raises(CompatError) as caught:
        judge(reference, {"rain": golden64})

    assert str(caught.value) == (
        "The reference 0.6.0-small has no golden for 'rain'.\n"
        "  it has: loss, pred_std, prediction\n"
        "Compare one that it has."
    )


def test_other_shape_is_refused_with_both(reference, golden64):
    with pytest.raises(CompatError) as caught:
        judge(reference, {"prediction": golden64[:, :1]})

    assert str(caught.value) == (
        "prediction of the current code has another shape than that of "
        "neural-lam 0.6.0.\n"
        "  reference: 0.6.0-small\n"
        "  expected: (1, 2, 3, 2)\n"
        "  obtained: (1, 1, 3, 2)\n"
        "Return what the release returned, or adapt: implement the hook "
        "pytest_nlam_compat_adapter."
    )


def test_nothing_to_compare_is_refused(reference):
    with pytest.raises(CompatError) as caught:
        judge(reference, {})

    assert str(caught.value) == (
        "No output was given to compare with the golden of 0.6.0-small.\n"
        "Give at least one by name, such as prediction=..."
    )


def test_rollout_has_to_give_all_that_the_release_gave(reference, golden64):
    insist_on_outputs(
        reference,
        {"prediction": golden64, "pred_std": golden64},
        torch.float64,
    )

    with pytest.raises(CompatError) as caught:
        insist_on_outputs(
            reference,
            {"prediction": golden64.float(), "spread": golden64},
            torch.float64,
        )
    assert str(caught.value) == (
        "0.6.0-small: the current code gives other outputs than neural-lam "
        "0.6.0 did.\n"
        "  missing: pred_std\n"
        "  new: spread\n"
        "  not float64 as model and inputs are: prediction (float32)\n"
        "Return what the release returned, or adapt: implement the hook "
        "pytest_nlam_compat_adapter."
    )
