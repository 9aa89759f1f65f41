"""The fixtures in people's own tests: what they give, and what they say."""

import re

import pytest
from nlam_runs import CHECKOUT, ONE, Project, cells, shows_no_traceback

# Each run takes seconds.
pytestmark = pytest.mark.slow

TWO = ("--nlam-compat-release=>=0.6", "--nlam-compat-case=graph_lam")
OWN = '''
import pytest
import torch


@pytest.fixture
def prediction(nlam_batch, nlam_model):
    """As the docstring of nlam_model shows it."""
    init_states, target_states, forcing, _ = nlam_batch
    with torch.no_grad():
        prediction, _ = nlam_model.forecaster(
            init_states, forcing, target_states
        )
    return prediction


def test_has_an_optimizer(nlam_reference):
    assert nlam_reference.description["optimizer_steps"] == 2


def test_rollout(prediction, nlam_check):
    nlam_check(prediction=prediction)


def test_first_model_can_be_changed(nlam_model):
    with torch.no_grad():
        for parameter in nlam_model.parameters():
            parameter.zero_()


def test_second_model_is_not_changed_by_that(prediction, nlam_check):
    nlam_check(prediction=prediction)


def test_model_has_the_weights_in_double_precision(nlam_reference, nlam_model):
    weights = nlam_reference.state_dict
    loaded = nlam_model.state_dict()
    if nlam_reference.release.minor == 7:
        assert loaded.keys() == weights.keys()
    assert all(
        torch.equal(loaded[name], weights[name].double())
        for name in loaded.keys() & weights.keys()
    )


def test_single_precision(nlam_reference, nlam_check):
    nlam_check(**nlam_reference.group("golden32"))


def test_wrong_numbers(prediction, nlam_check):
    prediction[1, 2, 3, 0] += 1.0
    nlam_check(prediction=prediction)


def test_wrong_shape(prediction, nlam_check):
    nlam_check(prediction=prediction[:1])


def test_wrong_name(prediction, nlam_check):
    nlam_check(forecast=prediction)


def test_nothing(nlam_check):
    nlam_check()


def test_subject(nlam_subject, nlam_reference):
    assert nlam_subject.reference is nlam_reference
'''
PASSING = [
    "test_has_an_optimizer",
    "test_rollout",
    "test_first_model_can_be_changed",
    "test_second_model_is_not_changed_by_that",
    "test_model_has_the_weights_in_double_precision",
    "test_single_precision",
    "test_subject",
]
FAILING = ["test_wrong_numbers", "test_wrong_shape", "test_wrong_name"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Run a repository's own tests on two references, without the flag."""
    project = Project(tmp_path_factory.mktemp("own"))
    project.write("test_own.py", OWN)
    return project.run(*TWO, "-v")


@pytest.mark.parametrize("release", ["0.6.0", "0.7.0"])
@pytest.mark.parametrize("name", PASSING)
def test_each_selected_reference_is_given(own, name, release):
    own.stdout.fnmatch_lines(
        [f"test_own.py::{name}[[]{release}-graph_lam[]] PASSED *"]
    )


def test_failures_are_those_that_were_meant(own):
    own.assert_outcomes(passed=2 * len(PASSING), failed=2 * (len(FAILING) + 1))
    assert shows_no_traceback(own)


def test_wrong_numbers_are_shown_with_their_place(own):
    own.stdout.fnmatch_lines(
        [
            "*_ test_wrong_numbers[[]0.7.0-graph_lam[]] _*",
            "0.7.0-graph_lam: the current code gives other outputs than "
            "neural-lam 0.7.0.",
            "  compared: prediction, with tolerance 'float64'",
            "  differs most: variable t2m, batch item 1, step 2, node 3",
            "  obtained: *",
            "  expected: *",
            "  allowed: *",
            "  difference: * of the spread of t2m, * times what is allowed",
            "If the change is intended, add a migration *",
        ]
    )


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "test_wrong_shape",
            [
                "0.7.0-graph_lam: prediction has another shape than *",
                "  expected: (2, 3, 54, 4)",
                "  obtained: (1, 3, 54, 4)",
            ],
        ),
        (
            "test_wrong_name",
            [
                "The reference 0.7.0-graph_lam has no golden for 'forecast'.",
                "  it has: loss, prediction",
                "Compare one that it has.",
            ],
        ),
        (
            "test_nothing",
            [
                "No output to compare with the golden of 0.7.0-graph_lam.",
                "Pass at least one by name, such as prediction=...",
            ],
        ),
    ],
)
def test_wrong_use_is_told_without_a_traceback(own, name, lines):
    own.stdout.fnmatch_lines([f"*_ {name}[[]0.7.0-graph_lam[]] _*", *lines])


def test_own_tests_end_with_the_matrix_too(own):
    assert cells(own) == {
        "0.6.0-graph_lam": "-/FAIL",
        "0.7.0-graph_lam": "-/FAIL",
    }


def test_model_that_can_not_be_loaded_is_one_clear_error(project):
    project.write("test_own.py", OWN)
    project.neural_lam(("*", "encoding_grid_mlp", "grid_encoder"))

    result = project.run(*ONE[1:], "-krollout or optimizer")

    result.assert_outcomes(passed=1, errors=1, deselected=9)
    assert shows_no_traceback(result)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR at setup of test_rollout[[]0.7.0-graph_lam[]] _*",
            "The migrated checkpoint does not fit the current model.",
            "  missing: forecaster.predictor.grid_encoder.0.bias, *",
        ]
    )


@pytest.mark.slow
def test_example_of_the_readme_passes_for_all_architectures(project):
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^def test_rollout.*?(?=```)", readme, re.M | re.S)
    project.write("test_example.py", example)

    result = project.run(
        "--nlam-compat-release===0.7.0", "--nlam-compat-device=auto", "-v"
    )

    passed = len(re.findall(r"test_rollout.*PASSED", result.stdout.str()))
    assert passed >= 24
    result.assert_outcomes(passed=passed)
    for case in ("graph_efm", "graph_efm-multiscale", "hi_lam_parallel"):
        result.stdout.fnmatch_lines([f"*[[]0.7.0-{case}[]] PASSED*"])


def test_nothing_selected_is_an_error_and_no_skip(project):
    project.write("test_own.py", OWN)

    result = project.run("--nlam-compat-release=<0.1")

    result.assert_outcomes(errors=1)
    assert shows_no_traceback(result)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR collecting test_own.py _*",
            "No reference is selected.",
            "  releases: *",
            "  current code: neural-lam 0.7.0",
            "  --nlam-compat-release: <0.1",
            "Correct the options; without them, all are selected.",
        ]
    )
