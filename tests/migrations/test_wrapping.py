"""Weights that a wrapper has saved under a prefix of its own."""

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import SavedRun, detect_origin, plan
from pytest_nlam_compat.migrations.wrapping import refuse_wrapped

BEFORE = "grid_embedder.0.weight"
SINCE = f"forecaster.predictor.{BEFORE}"


@pytest.mark.parametrize("name", [BEFORE, SINCE])
@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "ema.module"])
def test_the_prefix_is_named(prefix, name):
    # An average of weights counts, too.
    names = ["n_averaged", f"{prefix}.output_map.bias", f"{prefix}.{name}"]
    with pytest.raises(CompatError) as caught:
        refuse_wrapped(names)
    assert str(caught.value) == (
        f"The weights stand under '{prefix}.', where no release of neural-lam "
        "has them.\n"
        f"  found: {names[2]}\n"
        f"  expected: {name}\n"
        "Whatever wrapped the model has added the prefix. Take it off each "
        "name of the state_dict, and save that."
    )


@pytest.mark.parametrize(
    "names",
    [
        [BEFORE, "extra.weight"],
        [SINCE],
        # An auxiliary copy beside the weights is the user's own.
        [f"ema.{SINCE}", SINCE],
        # Nothing that is known: it is not for this to say what it is.
        ["encoder.weight"],
        [],
    ],
)
def test_where_releases_have_them_is_fine(names):
    refuse_wrapped(names)


def test_no_release_is_suggested_for_a_wrapped_file():
    with pytest.raises(CompatError, match=r"stand under 'module\.'"):
        detect_origin({"state_dict": {f"module.{SINCE}": None}})


@pytest.mark.parametrize("origin", ["0.6.0", "0.7.0"])
def test_no_release_that_a_user_names_makes_it_another_file(origin):
    """Else the prefix of 0.7 would be put before that of the wrapper."""
    run = SavedRun({f"module.{SINCE}": torch.zeros(2, 2)}, {})
    with pytest.raises(CompatError, match=r"stand under 'module\.'"):
        plan(run, "0.7.0", origin=origin)
