"""Weights of a part of a model of 0.7.0."""

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import SavedRun, detect_origin, plan
from pytest_nlam_compat.migrations.prefixes import refuse_part

BOTH = "grid_embedder.0.weight"
SINCE = "grid_prev_embedder.0.weight"


@pytest.mark.parametrize(
    ("found", "lacking"),
    [(SINCE, "forecaster.predictor."), (f"predictor.{SINCE}", "forecaster.")],
)
def test_the_prefix_that_is_missing_is_named(found, lacking):
    with pytest.raises(CompatError) as caught:
        refuse_part(["sigmoid_lower_lims", found])
    assert str(caught.value) == (
        "The weights are a part of a model of neural-lam 0.7.0, without the "
        f"prefix '{lacking}'.\n"
        f"  found: {found}\n"
        f"  expected: forecaster.predictor.{SINCE}\n"
        f"Put '{lacking}' before each name of the state_dict, and save that."
    )


def test_a_forecaster_may_be_a_wrapper_of_an_older_model():
    with pytest.raises(CompatError) as caught:
        refuse_part([f"predictor.{BOTH}"])
    assert str(caught.value) == (
        "The weights stand under 'predictor.', where no release of neural-lam "
        "has them.\n"
        "  found: predictor.grid_embedder.0.weight\n"
        "  expected of 0.7.0: forecaster.predictor.grid_embedder.0.weight\n"
        "  expected before: grid_embedder.0.weight\n"
        "Of a forecaster of 0.7.0 that was saved alone, put 'forecaster.' "
        "before each name of the state_dict; else take 'predictor.' off each. "
        "Save that."
    )


@pytest.mark.parametrize(
    "names",
    [
        [BOTH],
        [f"forecaster.predictor.{SINCE}"],
        # An auxiliary copy beside the weights is the user's own.
        [SINCE, f"predictor.{BOTH}", f"forecaster.predictor.{SINCE}"],
        ["predictor.weight"],
        [],
    ],
)
def test_others_are_fine(names):
    refuse_part(names)


@pytest.mark.parametrize("found", [SINCE, f"predictor.{BOTH}"])
def test_no_release_is_suggested(found):
    with pytest.raises(CompatError, match=r"'forecaster\."):
        detect_origin({"state_dict": {found: None}})


@pytest.mark.parametrize("origin", ["0.6.0", "0.7.0"])
@pytest.mark.parametrize("found", [SINCE, f"predictor.{BOTH}"])
def test_no_release_that_a_user_names_makes_it_a_whole(found, origin):
    run = SavedRun({found: torch.zeros(2, 2)}, {})
    with pytest.raises(CompatError, match=r"'forecaster\."):
        plan(run, "0.7.0", origin=origin)
