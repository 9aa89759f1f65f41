"""References before 0.4.0, which hold no trace."""

import pytest
import torch

from pytest_nlam_compat.diagnosis.explain import explain
from pytest_nlam_compat.migrations import HISTORY

pytestmark = pytest.mark.neural_lam


@pytest.fixture
def subject_of(reference_of, current_adapter, tmp_path):
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    def subject(name, without=""):
        history = [step for step in HISTORY if step.id != without]
        folder = tmp_path / name
        folder.mkdir()
        return ReferenceUnderTest(
            reference_of(name),
            current_adapter,
            folder,
            torch.device("cpu"),
            history=history,
        )

    return subject


def change_weights(subject):
    """Change a weight of the loaded model, as a broken loader would."""
    model = subject.migrated_model(torch.float64)
    predictor = subject.adapter.step_predictor(model)
    with torch.no_grad():
        predictor.output_map[0].weight.mul_(1 + 1e-4)


def test_the_cause_is_the_one_that_a_newer_reference_shows(subject_of):
    early, newer = subject_of("0.2.0-hi_lam"), subject_of("0.7.0-hi_lam")
    change_weights(early)
    change_weights(newer)
    shown = explain(newer, "outputs")
    found = explain(early, "outputs", lambda: shown)
    assert (found.kind, found.cause) == ("weights", shown.cause)
    assert found.module == "output_map.0"
    assert found.reference == "0.7.0-hi_lam"
    assert found.facts()["shown by"] == (
        "0.7.0-hi_lam; 0.2.0-hi_lam holds no trace"
    )


def test_a_migration_that_only_early_references_need(subject_of):
    broken = "0.3.0-static-order"
    early = subject_of("0.1.0-graph_lam", without=broken)
    newer = subject_of("0.7.0-graph_lam", without=broken)
    found = explain(early, "outputs", lambda: explain(newer, "outputs"))
    assert found.kind == "unknown"
    assert "hold no trace" in found.cause
    facts = found.facts()
    assert facts["trace"] == (
        "0.1.0-graph_lam holds no trace, and 0.7.0-graph_lam gives the right "
        "outputs"
    )
    assert (
        "0.3.0-forcing-order, 0.3.0-static-units"
        in (facts["migrations applied"])
    )


def test_without_a_newer_reference_no_cause_is_guessed(subject_of):
    early = subject_of("0.1.0-graph_lam", without="0.3.0-static-order")
    for newer in (None, lambda: None):
        found = explain(early, "outputs", newer)
        assert found.kind == "unknown"
        assert found.facts()["trace"] == "0.1.0-graph_lam holds no trace"


def test_what_needs_no_trace_is_named_anyway(subject_of):
    early = subject_of("0.1.0-graph_lam")
    change_weights(early)
    found = explain(early, "outputs")
    assert found.kind == "weights"
    assert found.facts()["changed by loading"] == (
        "forecaster.predictor.output_map.0.weight"
    )


def test_a_trace_needs_no_newer_reference(subject_of):
    def newer():
        raise AssertionError

    subject = subject_of("0.4.0-graph_lam")
    change_weights(subject)
    found = explain(subject, "outputs", newer)
    assert (found.kind, found.reference) == ("weights", "0.4.0-graph_lam")
