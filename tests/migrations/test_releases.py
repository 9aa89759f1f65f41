"""Weights without the prefix of 0.7.0, or under that of a wrapper."""

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import SavedRun, detect_origin, plan
from pytest_nlam_compat.migrations.releases import raise_on_unknown_prefix

BOTH = "grid_embedder.0.weight"
SINCE = "grid_prev_embedder.0.weight"
WHOLE = f"forecaster.predictor.{BOTH}"


@pytest.mark.parametrize(
    ("found", "lacking"),
    [(SINCE, "forecaster.predictor."), (f"predictor.{SINCE}", "forecaster.")],
)
def test_the_prefix_that_is_missing_is_named(found, lacking):
    with pytest.raises(CompatError) as caught:
        raise_on_unknown_prefix(["sigmoid_lower_lims", found])
    assert str(caught.value) == (
        "The weights are a part of a model of neural-lam 0.7.0, without the "
        f"prefix '{lacking}'.\n"
        f"  found: {found}\n"
        f"  expected: forecaster.predictor.{SINCE}\n"
        f"Put '{lacking}' before each name of the state_dict, and save that."
    )


def test_a_forecaster_may_be_a_wrapper_of_an_older_model():
    with pytest.raises(CompatError) as caught:
        raise_on_unknown_prefix([f"predictor.{BOTH}"])
    assert str(caught.value) == (
        "The names of the weights begin with 'predictor.', as in no release of "
        "neural-lam.\n"
        "  found: predictor.grid_embedder.0.weight\n"
        "  expected of 0.7.0: forecaster.predictor.grid_embedder.0.weight\n"
        "  expected before: grid_embedder.0.weight\n"
        "If it is a forecaster of 0.7.0 that was saved alone, put "
        "'forecaster.' before each name of the state_dict; else remove "
        "'predictor.'. Save that."
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
    raise_on_unknown_prefix(names)


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


@pytest.mark.parametrize("name", [BOTH, WHOLE])
@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "ema.module"])
def test_the_prefix_is_named(prefix, name):
    # An average of weights counts, too.
    names = ["n_averaged", f"{prefix}.output_map.bias", f"{prefix}.{name}"]
    with pytest.raises(CompatError) as caught:
        raise_on_unknown_prefix(names)
    assert str(caught.value) == (
        f"The names of the weights begin with '{prefix}.', as in no release of "
        "neural-lam.\n"
        f"  found: {names[2]}\n"
        f"  expected: {name}\n"
        "Something that wrapped the model added the prefix. Remove it from "
        "each name of the state_dict, and save that."
    )


@pytest.mark.parametrize(
    "names",
    [
        [BOTH, "extra.weight"],
        [WHOLE],
        # An auxiliary copy beside the weights is the user's own.
        [f"ema.{WHOLE}", WHOLE],
        # Nothing that is known: it is not for this to say what it is.
        ["encoder.weight"],
        [],
    ],
)
def test_where_releases_have_them_is_fine(names):
    raise_on_unknown_prefix(names)


def test_no_release_is_suggested_for_a_wrapped_file():
    with pytest.raises(CompatError, match=r"begin with 'ema\.'"):
        detect_origin({"state_dict": {f"ema.module.{WHOLE}": None}})


@pytest.mark.parametrize("origin", ["0.6.0", "0.7.0"])
def test_no_release_that_a_user_names_makes_it_another_file(origin):
    """Else the prefix of 0.7 would be put before that of the wrapper."""
    run = SavedRun({f"module.{WHOLE}": torch.zeros(2, 2)}, {})
    with pytest.raises(CompatError, match=r"begin with 'module\.'"):
        plan(run, "0.7.0", origin=origin)
