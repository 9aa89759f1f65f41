"""Verdicts on outputs, on a reference whose numbers are easy."""

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import check_outputs, grade, grade_outputs
from pytest_nlam_compat.numerics.tolerances import FLOAT32, FLOAT32_ENSEMBLE


def judge(reference, outputs):
    result = grade_outputs(reference, outputs)
    result.raise_on_failure()
    return result.worst


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

    assert caught.value.what == (
        "0.6.0-small: the current code gives other outputs than neural-lam "
        "0.6.0."
    )
    assert caught.value.facts == {
        "compared": "prediction, with tolerance 'float64'",
        "differs most": "variable u10, batch item 0, step 1, node 2",
        "obtained": "-0.75",
        "expected": "-1",
        "allowed": "1.00e-09",
        "difference": "2.50e-01 of the spread of u10, 2.5e+08 times what is "
        "allowed",
    }
    assert "add a migration so that old checkpoints keep their outputs" in (
        caught.value.remedy
    )


def test_float32_is_judged_by_the_noise_of_its_golden(reference, golden32):
    allowed = 10 * 1e-5

    close = judge(reference, {"prediction": moved(golden32, 0.5 * allowed)})
    assert close.share == pytest.approx(0.5, rel=1e-2)

    with pytest.raises(CompatError) as caught:
        judge(reference, {"prediction": moved(golden32, 2 * allowed)})
    facts = caught.value.facts
    assert facts["compared"] == "prediction, with tolerance 'float32'"
    assert facts["allowed"] == "1.00e-04"


def rounding(effect):
    """Return an ensemble in which u10 moves by this much of its spread."""
    return lambda: {"prediction": torch.tensor([0.0, effect]).double()}


def test_float32_that_is_far_off_is_judged_by_how_rounding_is_amplified(
    reference, golden32
):
    off = {"prediction": moved(golden32, 20e-5)}
    assert not grade_outputs(reference, off).passed

    found = grade_outputs(reference, off, rounding(10e-5))
    assert found.tolerance is FLOAT32_ENSEMBLE
    assert found.share == pytest.approx(0.5, rel=1e-2)
    # It widens only what it has measured.
    off = {"prediction": moved(golden32, 20e-5, (0, 1, 2, 0))}
    assert grade_outputs(reference, off, rounding(10e-5)).share > 1
    # And narrows nothing.
    off = {"prediction": moved(golden32, 8e-5)}
    found = grade_outputs(reference, off, rounding(1e-9))
    assert found.share == pytest.approx(0.8, rel=1e-2)


def test_what_is_close_needs_no_ensemble(reference, golden32, golden64):
    for output in (moved(golden32, 4e-5), moved(golden64, 1.0)):
        grade_outputs(reference, {"prediction": output}, pytest.fail)


def test_nothing_excuses_what_is_not_finite(reference, golden32):
    off = {"prediction": moved(golden32, float("nan"))}
    assert not grade_outputs(reference, off, rounding(1e9)).passed


def test_code_that_is_not_the_recorded_model_has_no_ensemble(
    reference, golden32, golden64
):
    class Amplifying(Subject):
        def outputs(self, model, dtype):
            return self.returned[str(dtype)]

    def subject(double):
        made = Amplifying(
            reference,
            **{
                "torch.float64": {"prediction": double, "pred_std": golden64},
                "torch.float32": {
                    "prediction": moved(golden32, 1.0),
                    "pred_std": golden32,
                },
            },
        )
        made.rounding = dict.fromkeys(golden_names, torch.ones(2))
        return made

    golden_names = ("prediction", "pred_std")
    assert grade(subject(golden64), torch.float32).passed
    for double in (moved(golden64, 1e-6), golden64[:, :1], golden64.float()):
        result = grade(subject(double), torch.float32)
        assert result.tolerance is FLOAT32
        assert result.share > 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_within_a_tolerance(
    reference, golden64, value
):
    with pytest.raises(CompatError) as caught:
        judge(reference, {"prediction": moved(golden64, value)})

    assert caught.value.facts["obtained"] == str(value)


def test_worst_output_comes_first(reference, golden64):
    found = grade_outputs(
        reference,
        {"prediction": golden64, "pred_std": moved(golden64, 1e-12)},
    )

    assert [each.output for each in found.differences] == [
        "pred_std",
        "prediction",
    ]


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

    assert "prediction has another shape" in caught.value.what
    assert caught.value.facts == {
        "expected": (1, 2, 3, 2),
        "obtained": (1, 1, 3, 2),
    }
    assert "pytest_nlam_compat_adapter" in caught.value.remedy


def test_nothing_to_compare_is_refused(reference):
    with pytest.raises(CompatError) as caught:
        judge(reference, {})

    assert str(caught.value) == (
        "No output to compare with the golden of 0.6.0-small.\n"
        "Pass at least one by name, such as prediction=..."
    )


def test_rollout_has_to_give_all_that_the_release_gave(reference, golden64):
    check_outputs(
        reference,
        {"prediction": golden64, "pred_std": golden64},
        torch.float64,
    )

    with pytest.raises(CompatError) as caught:
        check_outputs(
            reference,
            {"prediction": golden64.float(), "spread": golden64},
            torch.float64,
        )
    assert caught.value.facts == {
        "missing": "pred_std",
        "new": "spread",
        "not float64 like model and inputs": "prediction (float32)",
    }


class Subject:
    """Returns outputs of a model that is never made."""

    def __init__(self, reference, **outputs):
        self.reference, self.returned = reference, outputs

    def migrated_model(self, dtype):
        return "migrated"

    def outputs(self, model, dtype):
        assert model in ("migrated", "native")
        return self.returned


def test_a_rollout_is_graded_with_all_of_its_outputs(reference, golden64):
    subject = Subject(reference, prediction=golden64, pred_std=golden64)

    for model in (None, "native"):
        result = grade(subject, torch.float64, model)
        assert result.passed
        assert result.share == 0
        assert result.outputs is subject.returned

    del subject.returned["pred_std"]
    with pytest.raises(CompatError, match="does not return"):
        grade(subject, torch.float64)


def test_a_failed_result_says_so_before_it_raises(reference, golden64):
    off = moved(golden64, 0.25)
    subject = Subject(reference, prediction=golden64, pred_std=off)

    result = grade(subject, torch.float64)

    assert not result.passed
    assert result.worst.output == "pred_std"
    with pytest.raises(CompatError):
        result.raise_on_failure()
