"""Of which class a graph layer is, as the model of neural-lam has it."""

from dataclasses import replace

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import PermuteInputBlocks
from pytest_nlam_compat.migrations.operations.blocks import layer_class

pytestmark = pytest.mark.neural_lam

BLOCKS = ("edge", "sender", "receiver")
CASES = (
    "0.6.0-graph_lam",
    "0.7.0-graph_lam-propagation",
    "0.7.0-hi_lam-propagation",
    "0.7.0-hi_lam_parallel",
    "0.7.0-graph_efm",
    "0.7.0-graph_efm-multiscale",
)


@pytest.fixture
def subject_of(reference_of, current_adapter, tmp_path):
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    def subject(name, **arguments):
        made = ReferenceUnderTest(
            reference_of(name), current_adapter, tmp_path, torch.device("cpu")
        )
        if arguments:
            given = {**made.predictor.arguments, **arguments}
            made.predictor = replace(made.predictor, arguments=given)
        return made

    return subject


def classes(subject):
    """Return both answers for each first weight of an edge MLP."""
    model, run = subject.migrated_model(torch.float64), subject.migrated
    modules = dict(model.named_modules())
    found = {}
    for name in run.state_dict:
        if name.endswith(".0.weight") and ".edge_mlp." in name:
            layer = modules[name.split(".edge_mlp.")[0]]
            found[name] = layer_class(run, name), type(layer).__name__
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_class_is_that_of_the_model(subject_of, name):
    found = classes(subject_of(name))
    assert found
    assert all(said == true for said, true in found.values())


@pytest.mark.parametrize("name", [n for n in CASES if "graph_efm" in n])
def test_an_ensemble_model_built_with_another_class(subject_of, name):
    kinds = dict.fromkeys(("g2m_gnn_type", "m2g_gnn_type"), "PropagationNet")
    found = classes(subject_of(name, **kinds))
    assert all(said == true for said, true in found.values())
    others = [true for key, (_, true) in found.items() if "m2g_gnn" in key]
    assert set(others) == {"PropagationNet"}


def test_a_file_that_does_not_say_it_is_refused(subject_of):
    run = replace(subject_of("0.7.0-graph_efm").migrated, model_arguments=None)
    new = ("edge", "receiver", "sender")
    everywhere = PermuteInputBlocks(
        "**.edge_mlp.**.0.weight", BLOCKS, new, of="InteractionNet"
    )
    with pytest.raises(CompatError, match="does not say of which class") as got:
        everywhere.apply(run)
    assert "decoder.m2g_gnn" in got.value.facts["unknown"]
    # Where a model has no choice, nothing has to be said.
    up = "forecaster.predictor.decoder.mesh_up_gnns.*.edge_mlp.0.weight"
    replace(everywhere, names=up).apply(run)
