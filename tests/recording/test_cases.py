"""The cases: which release has them, and which can't run them."""

import math

import pytest
from packaging.version import Version

from pytest_nlam_compat.recording.cases import (
    CASES,
    CLAMPING,
    STATE,
    WEIGHTS,
    cases_of,
)

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def names(release):
    return {case.name for case in cases_of(Version(release))}


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


def test_each_release_has_its_cases():
    assert names("0.4.0") == names("0.5.0")
    assert names("0.6.0") - names("0.5.0") == {"graph_lam-ensemble"}
    assert names("0.7.0") - names("0.6.0") == {
        "graph_efm",
        "graph_efm-multiscale",
        "graph_lam-propagation",
        "hi_lam-propagation",
    }
    # A later one has all of 0.7's until something is said of it.
    assert names("0.9.0") == names("0.7.0")
    assert names("0.3.0") == set()


@each
def test_hierarchical_graphs_have_room_for_their_levels(case):
    # NEURAL_LAM_FACTS, section 6: at least 27 nodes along one axis.
    if case.hierarchical:
        assert case.levels >= 2
        finest = 3 ** (math.floor(math.log(max(case.grid.nx, case.grid.ny), 3)))
        assert finest >= 3 ** (case.levels + 1)


@each
def test_void_cases_are_those_that_a_release_cannot_run(case):
    void = set(case.void)
    if "output_std" in " ".join(case.arguments):
        assert void == {"0.4.0"}
    elif case.hierarchical and case.since == "0.4.0":
        assert void == {"0.6.0"}
    else:
        assert void == set()


@each
def test_a_model_is_named_in_one_way(case):
    if case.predictor:
        assert case.predictor.name == case.model
        assert case.predictor.arguments["graph_name"] == case.graph
        assert case.since == "0.7.0"
    else:
        assert case.model in ("graph_lam", "hi_lam", "hi_lam_parallel")


def test_cases_cover_what_they_are_named_for():
    by_name = {case.name: case for case in CASES}

    def argument(case, name):
        return by_name[case].arguments.get(f"--{name}")

    assert argument("graph_lam-multiscale", "mesh_aggr") == "mean"
    assert by_name["graph_lam-multiscale"].graph == "multiscale"
    for case, past, future in (("00", "0", "0"), ("21", "2", "1")):
        case = f"graph_lam-window{case}"
        assert argument(case, "num_past_forcing_steps") == past
        assert argument(case, "num_future_forcing_steps") == future
    assert by_name["graph_lam-weights"].weighting
    clamped = {case.name for case in CASES if case.clamping}
    assert clamped == {
        "graph_lam-clamp",
        "graph_lam-std-clamp",
        "hi_lam_parallel-clamp",
    }
    assert argument("graph_lam-deep", "hidden_layers") == "2"
    assert argument("graph_lam-shallow", "hidden_layers") == "0"
    assert argument("graph_lam-shallow", "processor_layers") == "1"
    assert argument("hi_lam", "processor_layers") == "1"
    assert argument("hi_lam-deep", "processor_layers") is None  # 2
    assert argument("graph_lam-mae", "loss") == "mae"
    assert float(argument("graph_lam-mae", "lr")) != 1e-3
    assert by_name["graph_lam-forecast"].forecast
    assert by_name["graph_lam-ensemble"].members > 1
    for case in ("graph_lam-square", "hi_lam-square"):
        grid = by_name[case].grid
        assert grid.width == grid.height
    assert by_name["hi_lam"].levels == 2
    assert by_name["hi_lam-3level"].levels == 3


def test_clamping_has_one_variable_of_each_kind():
    lower, upper = set(CLAMPING["lower"]), set(CLAMPING["upper"])
    assert lower | upper < set(STATE)
    assert lower & upper
    assert lower - upper
    assert upper - lower
    assert len(set(WEIGHTS.values())) == len(WEIGHTS) == len(STATE)
    assert set(WEIGHTS) == set(STATE)
