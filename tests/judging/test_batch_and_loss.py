"""Verdicts on the batch and the loss, on a reference with easy numbers."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.batch_and_loss import (
    check_samples,
    compare_batch,
    compare_loss,
    samples_in_series,
)
from pytest_nlam_compat.numerics.tolerances import LOSS_FLOAT32
from pytest_nlam_compat.references.reference import Dataset


@pytest.fixture
def batch(reference):
    return reference.group("batch")


def test_same_batch_uses_nothing_of_the_tolerance(reference, batch):
    assert compare_batch(reference, batch) == 0


def test_batch_may_differ_by_a_rounding_of_float32(reference, batch):
    close = batch["init_states"] * (1 + 2**-22)

    share = compare_batch(reference, batch | {"init_states": close})

    assert share == pytest.approx(2**-22 / 1e-6, rel=1e-3)


def test_forcing_of_another_order_names_feature_and_place_in_the_window(
    reference, batch
):
    forcing = batch["forcing"].clone()
    forcing[0, 1, 2, 4] = 2.0

    with pytest.raises(CompatError) as caught:
        compare_batch(reference, batch | {"forcing": forcing})

    # Two features in windows of three: column 4 is the middle of the second.
    assert "makes another batch from the same series" in caught.value.what
    assert caught.value.facts == {
        "compared": "forcing, with tolerance 'batch'",
        "differs most": "variable sst (window 1), batch item 0, step 1, node 2",
        "obtained": "2",
        "expected": "-1",
        "allowed": "1.00e-06",
        "difference": "3.00e+00 of the spread of sst (window 1), 3e+06 times "
        "what is allowed",
    }
    assert "old weights expect the old columns" in caught.value.remedy


def test_window_of_another_extent_is_told_by_its_shape(reference, batch):
    with pytest.raises(CompatError) as caught:
        compare_batch(reference, batch | {"forcing": batch["forcing"][..., :4]})

    assert caught.value.facts == {
        "shape differs": "forcing",
        "expected": (1, 2, 3, 6),
        "obtained": (1, 2, 3, 4),
    }


def test_batch_of_another_precision_is_another_one(reference, batch):
    """Its numbers, 1 and -1, are the same in any."""
    with pytest.raises(CompatError) as caught:
        compare_batch(reference, batch | {"forcing": batch["forcing"].half()})

    assert caught.value.facts == {
        "precision differs": "forcing",
        "expected": "float32",
        "obtained": "float16",
    }


def test_states_are_named_by_their_variable(reference, batch):
    states = batch["target_states"].clone()
    states[0, 0, 1, 0] += 1

    with pytest.raises(CompatError) as caught:
        compare_batch(reference, batch | {"target_states": states})

    assert caught.value.facts["differs most"] == (
        "variable t2m, batch item 0, step 0, node 1"
    )


def test_other_times_are_another_batch(reference, batch):
    times = batch["target_times"] + 1

    with pytest.raises(CompatError) as caught:
        compare_batch(reference, batch | {"target_times": times})

    assert (
        caught.value.facts["compared"] == "target_times, with tolerance 'batch'"
    )


def test_same_loss_uses_nothing_of_the_tolerance(reference):
    assert compare_loss(reference, torch.tensor([4.0]).double()) == {"loss": 0}


def test_other_loss_is_shown_with_both(reference):
    with pytest.raises(CompatError) as caught:
        compare_loss(reference, torch.tensor([4.5]).double())

    assert "training loss on the recorded batch has changed" in (
        caught.value.what
    )
    assert caught.value.facts == {
        "obtained": "4.5",
        "expected": "4",
        "allowed": "4.00e-09, tolerance 'loss'",
    }


def test_loss_in_float32_may_be_rounded_but_not_to_bfloat16(reference):
    rounded = torch.tensor([4.0 * (1 + 2**-18)]).double()
    with pytest.raises(CompatError):
        compare_loss(reference, rounded)
    (share,) = compare_loss(reference, rounded, LOSS_FLOAT32).values()
    assert share < 0.5
    with pytest.raises(CompatError):
        compare_loss(reference, 4.0 + rounded * 2**-9, LOSS_FLOAT32)


def series(release, state, forcing):
    """Return a reference with series of these shapes, and a forcing window."""
    arrays = {"state": torch.empty(state), "forcing": torch.empty(forcing)}
    return SimpleNamespace(
        id="a",
        release=Version(release),
        dataset=Dataset({}, arrays),
        description={"ar_steps": 3},
    )


@pytest.mark.parametrize(
    ("state", "forcing", "past", "future", "samples"),
    [
        ((8, 4, 2), (8, 4, 1), 1, 1, 3),
        ((8, 4, 2), (8, 4, 1), 0, 0, 4),
        ((8, 4, 2), (8, 4, 1), 4, 0, 2),
        ((8, 5, 4, 2), (8, 4, 1), 1, 1, 15),
        ((6, 9, 4, 2), (6, 9, 4, 1), 1, 1, 6),
        ((6, 9, 5, 4, 2), (6, 9, 4, 1), 1, 1, 30),
    ],
    ids=["analysis", "no window", "past", "members", "forecasts", "both"],
)
def test_samples_of_a_series(state, forcing, past, future, samples):
    window = Namespace(
        num_past_forcing_steps=past, num_future_forcing_steps=future
    )
    newest = series("0.7.0", state, forcing)
    assert samples_in_series(newest, window) == samples
    check_samples(newest, window, samples)
    for wrong in (samples - 1, samples + 1):
        with pytest.raises(CompatError) as caught:
            check_samples(newest, window, wrong)
        assert caught.value.facts["the current code finds"] == wrong


def test_last_sample_that_0_6_left_out_may_be_found():
    window = Namespace(num_past_forcing_steps=1, num_future_forcing_steps=1)
    older = series("0.6.0", (8, 4, 2), (8, 4, 1))
    for found in (2, 3):
        check_samples(older, window, found)
    for found in (1, 4):
        with pytest.raises(CompatError):
            check_samples(older, window, found)
    forecasts = series("0.6.0", (6, 9, 4, 2), (6, 9, 4, 1))
    with pytest.raises(CompatError):
        check_samples(forecasts, window, 5)


def test_0_6_left_out_the_last_sample_of_each_member():
    window = Namespace(num_past_forcing_steps=1, num_future_forcing_steps=1)
    ensemble = series("0.6.0", (8, 2, 4, 2), (8, 4, 1))
    for found in (4, 6):
        check_samples(ensemble, window, found)
    with pytest.raises(CompatError):
        check_samples(ensemble, window, 3)
