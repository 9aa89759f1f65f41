"""Take each operation of the history out, and see the references turn red.

Each is taken out alone, in front of the real references that it concerns; the
check that sees it first is the one of the table. What no reference can show
is in ``test_steps_without_a_reference.py`` and
``test_hyper_parameters_alone.py``.
"""

import dataclasses

import pytest
from packaging.version import Version
from taking_out import ELSEWHERE, step_of, with_operation, without
from verdicts import first_failure

from pytest_nlam_compat.migrations import (
    HISTORY,
    NumberFromMinimum,
    Operation,
    RelabelGrid,
)
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
]

CASES = ("graph_lam", "hi_lam", "hi_lam_parallel")
# 0.6.0 has no hierarchical references.
NEWER = {
    "0.4.0": ("graph_lam-square", "hi_lam-square", "graph_lam"),
    "0.5.0": ("graph_lam-square", "hi_lam-square", "graph_lam"),
    "0.6.0": ("graph_lam-square", "graph_lam"),
}
REFERENCES = {
    Version(release): [f"{release}-{case}" for case in cases]
    for release, cases in (
        dict.fromkeys(("0.1.0", "0.2.0", "0.3.0"), CASES) | NEWER
    ).items()
}

# Step, index of its operation, and which check sees it first.
SEEN = {
    ("0.2.0-output-std", 0): "loads",
    ("0.2.0-loss-names", 0): "loss",
    ("0.3.0-forcing-window", 0): "loads",
    ("0.3.0-forcing-window", 1): "loads",
    ("0.3.0-water-window", 0): "loads",
    ("0.3.0-forcing-order", 0): "outputs",
    ("0.3.0-static-order", 0): "outputs",
    ("0.3.0-static-units", 0): "outputs",
    ("0.3.0-grid-order", 0): "outputs",
    ("0.3.0-grid-order", 1): "outputs",
    ("0.4.0-static-standardised", 0): "outputs",
    **{
        ("0.4.0-clamping-buffers", index): "loads"
        for index in range(len(CLAMP_BUFFERS))
    },
    ("0.5.0-datastore-kind", 0): "loads",
    ("0.6.0-first-nodes", 0): "outputs",
    # The loader of 0.7 adds the prefix, too: a strict load can't see it.
    ("0.7.0-forecaster", 0): "migrations",
}

# Where the first nodes of the grid have no edge. With an edge at the first
# node, numbering from it changes nothing.
SHIFTED = {
    "0.1.0-graph_lam",
    "0.1.0-hi_lam",
    "0.2.0-hi_lam_parallel",
    "0.3.0-graph_lam",
    "0.3.0-hi_lam",
    "0.4.0-graph_lam-square",
    "0.4.0-hi_lam-square",
    "0.5.0-graph_lam-square",
    "0.5.0-hi_lam-square",
}


def concerned(step, recorded_run):
    for release, names in REFERENCES.items():
        if step.between(release, Version("0.7.0")):
            for name in names:
                if step.when is None or step.when(recorded_run(name)):
                    yield name


def test_every_operation_is_taken_out_somewhere():
    operations = {
        (step.id, index)
        for step in HISTORY
        for index in range(len(step.operations))
        if step.id not in ELSEWHERE
    }
    assert operations == set(SEEN)
    assert {step.id for step in HISTORY} >= ELSEWHERE


@pytest.mark.parametrize(
    "name", [name for names in REFERENCES.values() for name in names]
)
def test_with_all_of_them_every_check_passes(name, subject_of):
    assert first_failure(subject_of(name)) is None


@pytest.mark.parametrize(
    ("step", "index"), SEEN, ids=[f"{step}-{index}" for step, index in SEEN]
)
def test_without_it_a_check_fails(step, index, subject_of, recorded_run):
    history = without(step, index)
    operation = step_of(step).operations[index]
    red = SEEN[step, index]
    names = list(concerned(step_of(step), recorded_run))
    assert names
    for name in names:
        blind = isinstance(operation, NumberFromMinimum) and (
            name not in SHIFTED
        )
        found = first_failure(subject_of(name, history=history))
        assert found == (None if blind else red), name


@dataclasses.dataclass(repr=False)
class WithoutMoments(Operation):
    """Does the part of an operation that is on the weights."""

    operation: Operation

    def apply(self, run):
        new = self.operation.apply(run)
        return dataclasses.replace(run, state_dict=new.state_dict)


# That of the static columns can't be seen: the fold after it is exact on
# weights and first moments only, so that these columns are left out by name.
@pytest.mark.parametrize("case", CASES)
def test_moments_that_stay_behind_are_seen(case, subject_of):
    name = "0.3.0-forcing-order"
    [operation] = step_of(name).operations
    history = with_operation(name, 0, WithoutMoments(operation))
    subject = subject_of(f"0.2.0-{case}", history=history)
    assert first_failure(subject) == "resumes"


@dataclasses.dataclass(repr=False)
class Half(Operation):
    """Relabels the grid in one of the two files only."""

    forgotten: str

    def apply(self, run):
        new = RelabelGrid("y-major", "x-major").apply(run)
        graph = {**new.graph, self.forgotten: run.graph[self.forgotten]}
        return dataclasses.replace(new, graph=graph)


@pytest.mark.parametrize("forgotten", ["g2m_edge_index", "m2g_edge_index"])
@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_either_half_of_the_relabelling_is_needed(
    release, forgotten, subject_of
):
    history = with_operation("0.3.0-grid-order", 1, Half(forgotten))
    subject = subject_of(f"{release}-graph_lam", history=history)
    assert first_failure(subject) == "outputs"


@pytest.mark.parametrize(
    ("release", "step", "feature"),
    [
        (release, "0.3.0-static-units", feature)
        for release in ("0.1.0", "0.2.0")
        for feature in ("surface_geopotential", "x", "y")
    ]
    + [
        (release, "0.4.0-static-standardised", feature)
        for release in ("0.1.0", "0.2.0", "0.3.0")
        for feature in ("surface_geopotential", "border_mask", "x", "y")
    ],
)
def test_each_static_feature_has_to_be_folded(
    release, step, feature, subject_of, recorded_run
):
    [operation] = step_of(step).operations
    old = operation.old
    if isinstance(old, str):
        old = dict.fromkeys(
            recorded_run(f"{release}-hi_lam").statistics.static_names, old
        )
    forgetful = dataclasses.replace(
        operation, old={**old, feature: operation.new}
    )
    history = with_operation(step, 0, forgetful)
    subject = subject_of(f"{release}-hi_lam", history=history)
    assert first_failure(subject) == "outputs"


@dataclasses.dataclass(repr=False)
class WithoutBias(Operation):
    """Folds into the weight and forgets the bias."""

    operation: Operation

    def apply(self, run):
        new = self.operation.apply(run)
        name = f"{self.operation.layer}.bias"
        weights = {**new.state_dict, name: run.state_dict[name]}
        return dataclasses.replace(new, state_dict=weights)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("release", "step"),
    [
        ("0.1.0", "0.3.0-static-units"),
        ("0.2.0", "0.4.0-static-standardised"),
        ("0.3.0", "0.4.0-static-standardised"),
    ],
)
def test_the_offsets_of_static_features_go_into_the_bias(
    release, step, case, subject_of
):
    [operation] = step_of(step).operations
    history = with_operation(step, 0, WithoutBias(operation))
    subject = subject_of(f"{release}-{case}", history=history)
    assert first_failure(subject) == "outputs"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
@pytest.mark.parametrize("window", [(1, 1), (0, 2)])
def test_another_window_of_the_same_width_is_seen(
    release, case, window, subject_of
):
    # (1, 1) is the default of newer code.
    step = step_of("0.3.0-forcing-window")
    other = dataclasses.replace(
        step,
        operations=tuple(
            dataclasses.replace(operation, value=value)
            for operation, value in zip(step.operations, window, strict=True)
        ),
    )
    history = [other if each is step else each for each in HISTORY]
    subject = subject_of(f"{release}-{case}", history=history)
    assert first_failure(subject) == "batch"
