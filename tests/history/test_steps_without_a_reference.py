"""The steps that no recorded run goes through, on recorded runs made to.

There is no reference trained on an mllam-data-prep dataset by v0.3, and none
whose graph was created anew by 0.7. Each is made here of one that there is,
so that its golden stays the measure.
"""

import dataclasses

import pytest
import torch
from taking_out import without
from verdicts import first_failure

from pytest_nlam_compat.adapters.datastore import StoredDatastore
from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.migrations.operations.hyper_parameters import rebuild
from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.references.reference import read_graph

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
]


def of_mdp(run):
    """Write a run of v0.3 as its code would have on an mdp dataset.

    That took the statistics of differences from raw states: an output o meant
    o d s + m s, where it means o d + m in the reference.
    """
    s, m, d = (
        run.statistics.arrays[name]
        for name in ("state_std", "state_diff_mean", "state_diff_std")
    )
    weight, bias = "output_map.2.weight", "output_map.2.bias"
    weights = dict(run.state_dict)
    weights[weight] = weights[weight] / s[:, None]
    weights[bias] = (weights[bias] * d + m - m * s) / (d * s)

    def kind_mdp(value):
        if (
            isinstance(value, InertObject)
            and value.cls.name == "DatastoreKindStr"
        ):
            return dataclasses.replace(value, args=("mdp",))
        return value

    return dataclasses.replace(
        run,
        state_dict=weights,
        hyper_parameters=rebuild(run.hyper_parameters, kind_mdp),
    )


@pytest.mark.parametrize("case", ["graph_lam", "hi_lam", "hi_lam_parallel"])
def test_difference_statistics_of_mdp(case, subject_of):
    subject = subject_of(f"0.3.0-{case}")
    subject.float64 = of_mdp(subject.float64)
    assert "0.4.0-difference-statistics" in subject.migrated.applied
    assert first_failure(subject) is None

    history = without("0.4.0-difference-statistics", 0)
    subject = subject_of(f"0.3.0-{case}", history=history)
    subject.float64 = of_mdp(subject.float64)
    assert first_failure(subject) == "outputs"


@pytest.fixture
def regenerated(current_adapter, subject_of, tmp_path):
    """Create the graph of a reference anew, with the current code."""

    def put(name, **steps):
        subject = subject_of(name, **steps)
        folder = tmp_path / "anew"
        description = subject.reference.description
        if not folder.exists():
            current_adapter.create_graph(
                StoredDatastore(subject.reference.dataset, tmp_path, "f8"),
                folder,
                levels=description["levels"],
                hierarchical=description["hierarchical"],
            )
        subject.float64 = dataclasses.replace(
            subject.float64,
            graph=read_graph(folder),
            graph_format=graph_format(folder),
        ).double()
        return subject

    return put


def off_by(subject):
    """Largest difference from the golden, over the spread."""
    return grade(subject, torch.float64).worst.relative


def test_a_graph_that_is_another_one_is_refused(regenerated):
    subject = regenerated("0.4.0-graph_lam")
    with pytest.raises(CompatError) as caught:
        _ = subject.migrated
    assert caught.value.facts["migration"] == "0.5.0-original-graph"
    history = without("0.5.0-original-graph", 0)
    silent = regenerated("0.4.0-graph_lam", history=history)
    assert first_failure(silent) == "outputs"


@pytest.mark.parametrize(
    ("name", "step", "index"),
    [
        ("0.5.0-graph_lam", "0.7.0-regenerated-flat-graph", 0),
        ("0.6.0-graph_lam", "0.7.0-regenerated-flat-graph", 0),
        ("0.5.0-hi_lam", "0.7.0-regenerated-hierarchical-graph", 0),
        ("0.5.0-hi_lam", "0.7.0-regenerated-hierarchical-graph", 1),
        ("0.5.0-hi_lam_parallel", "0.7.0-regenerated-hierarchical-graph", 1),
    ],
)
def test_a_regenerated_graph_has_other_units(name, step, index, regenerated):
    right = off_by(regenerated(name))
    wrong = off_by(regenerated(name, history=without(step, index)))
    assert right < 2e-6
    assert wrong > 1e-4
