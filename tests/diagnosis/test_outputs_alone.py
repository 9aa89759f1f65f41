"""References before 0.4.0, which recorded the outputs of layers alone."""

import pytest
import torch

from pytest_nlam_compat.diagnosis.outputs import compare_outputs

pytestmark = pytest.mark.neural_lam

EARLY = ["0.1.0-graph_lam", "0.2.0-hi_lam", "0.3.0-hi_lam_parallel"]


@pytest.fixture
def subject_of(reference_of, current_adapter, tmp_path):
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    def subject(name):
        return ReferenceUnderTest(
            reference_of(name), current_adapter, tmp_path, torch.device("cpu")
        )

    return subject


@pytest.mark.parametrize("name", EARLY)
def test_each_output_of_the_current_code_is_the_recorded_one(subject_of, name):
    subject = subject_of(name)
    found = compare_outputs(subject, subject.migrated_model(torch.float64))
    assert found.first is None
    assert found.gone == []
    assert found.finding() is None
    assert found.depth == 1


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("layer", ["m2g_embedder", "output_map"])
def test_a_weight_that_is_off_by_a_little_is_found(subject_of, name, layer):
    subject = subject_of(name)
    module = subject.migrated_model(torch.float64)
    predictor = subject.adapter.step_predictor(module)
    with torch.no_grad():
        getattr(predictor, layer)[0].weight.mul_(1 + 1e-8)
    found = compare_outputs(subject, module)
    assert found.recorded[found.first].module == layer
    finding = found.finding()
    assert finding.kind == "weights"
    assert finding.module == f"{layer}.0"
    release = subject.reference.release
    assert finding.details["its inputs"] == (
        f"not recorded by {release}; its weights make the recorded output of "
        "what it is fed now"
    )


def test_what_nothing_at_hand_explains(subject_of):
    subject = subject_of("0.1.0-graph_lam")
    module = subject.migrated_model(torch.float64)
    predictor = subject.adapter.step_predictor(module)
    forward = predictor.m2g_gnn.forward
    # As if another grid representation were passed on.
    predictor.m2g_gnn.forward = lambda mesh, grid, edges: forward(
        mesh, grid.cos(), edges
    )
    finding = compare_outputs(subject, module).finding()
    assert finding.kind == "module"
    assert finding.cause == "m2g_gnn.edge_mlp puts out something else"
    assert finding.module == "m2g_gnn.edge_mlp"
    assert finding.here > 1e-3
    assert finding.details == {
        "part of": "m2g_gnn (InteractionNet)",
        "its inputs": "not recorded by 0.1.0, so that either it or what it is "
        "fed has changed",
    }
