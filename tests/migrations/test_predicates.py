"""Predicates: which runs need a migration."""

import pytest
from saved_runs import namespace, saved_run

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.migrations import HasHyperParameter, Holds, SavedRun


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("g2m_gnn", True),
        ("predictor.g2m_gnn", True),
        ("g2m_*.edge_mlp", True),
        ("edge_mlp.0.weight", True),
        ("g2m", False),
        ("edge", False),
        ("weight.edge_mlp", False),
    ],
)
def test_a_run_holds_modules_under_whatever_parents(pattern, expected):
    name = "forecaster.predictor.g2m_gnn.edge_mlp.0.weight"
    assert Holds(pattern)(saved_run({name: (1,)})) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("mdp", True),
        ("npy", False),
        (InertObject(GlobalRef("a", "Kind"), ("mdp",)), True),
        (InertObject(GlobalRef("a", "Kind"), ("npy",)), False),
        (InertObject(GlobalRef("a", "Kind")), False),
    ],
)
def test_an_object_has_the_value_that_it_was_built_from(found, expected):
    run = SavedRun({}, {"args": namespace(kind=found)})
    assert HasHyperParameter("args.kind", "mdp")(run) is expected
