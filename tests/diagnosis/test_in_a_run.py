"""What a user reads when the meaning of neural-lam has changed."""

import pytest
from nlam_runs import ONE, failed, shows_no_traceback

pytestmark = pytest.mark.neural_lam

BROKEN = """\
import sys
sys.modules['pytest_nlam_compat.{module}'] = None
"""
EPSILON = (
    "utils/networks.py",
    "nn.LayerNorm(blueprint[-1])",
    "nn.LayerNorm(blueprint[-1], eps=1e-6)",
)
CAUSE = "LayerNorm gives different outputs for the same input"
STATES = (
    "models/step_predictors/graph/base.py",
    "                prev_state,\n                prev_prev_state,\n",
    "                prev_prev_state,\n                prev_state,\n",
)


def test_the_cause_is_shown_in_full_once(project):
    project.neural_lam(EPSILON)
    result = project.run(*ONE, "--nlam-compat", "-k", "outputs or loss")
    assert result.ret == 1
    assert shows_no_traceback(result)
    result.stdout.fnmatch_lines(
        [
            "*_ test_outputs[[]0.7.0-graph_lam[]] _*",
            "Why:",
            f"  cause: {CAUSE}",
            "  differs first in: grid_embedder.3 (LayerNorm)",
            "  source: neural_lam/utils/networks.py:*",
            "  difference there: * of its size, in the outputs * of their "
            "spread",
            "  part of: the step predictor (GraphLAM)",
            "  now: LayerNorm((4,), eps=1e-06, elementwise_affine=True*)",
            "*_ test_outputs_float32[[]0.7.0-graph_lam[]] _*",
            f"  cause: {CAUSE}",
            "Same cause as nlam-compat::test_outputs[[]0.7.0-graph_lam[]].",
            f"FAILED nlam-compat: {CAUSE}, 1 reference",
            "  in 0.7.0-graph_lam",
        ]
    )
    # The summary leaves out the title.
    assert result.stdout.str().count("Why:") == 1


def test_without_a_failure_nothing_is_diagnosed(project):
    # Importing the diagnosis would show: it is broken here.
    project.write("conftest.py", BROKEN.format(module="diagnosis.explain"))
    result = project.run(*ONE, "--nlam-compat", "-k", "outputs")
    assert result.ret == 0


def test_a_broken_diagnosis_does_not_hide_the_failure(project):
    project.neural_lam(EPSILON)
    project.write("conftest.py", BROKEN.format(module="diagnosis.explain"))
    result = project.run(*ONE, "--nlam-compat", "-k", "test_outputs")
    assert failed(result) == {"test_outputs", "test_outputs_float32"}
    result.stdout.fnmatch_lines(
        [
            "0.7.0-graph_lam: the current code gives other outputs than "
            "neural-lam 0.7.0.",
            "The diagnosis itself failed, please report it: *",
        ]
    )


def test_a_broken_search_does_not_hide_the_cause(project):
    project.neural_lam(EPSILON)
    broken = BROKEN.format(module="suggest.suggestions")
    project.write("conftest.py", broken)
    result = project.run(*ONE, "--nlam-compat", "-k", "test_outputs[")
    assert failed(result) == {"test_outputs"}
    result.stdout.fnmatch_lines(
        [
            f"  cause: {CAUSE}",
            "The search for a fix failed, please report it: *",
        ]
    )


def test_the_step_that_fixes_it_is_shown_once(project):
    project.neural_lam(STATES)
    result = project.run(
        *ONE, "--nlam-compat", "-k", "outputs or loss", "--junitxml=report.xml"
    )
    assert result.ret == 1
    assert shows_no_traceback(result)
    result.stdout.fnmatch_lines(
        [
            "Why:",
            "  cause: the input of grid_embedder has its columns in another "
            "order",
            "How to fix it, verified on 0.7.0-graph_lam, 0.1.0-graph_lam:",
            "  PermuteInputBlocks('forecaster.predictor.grid_embedder.0.*', "
            "('prev_state', 'prev_prev_state'), *",
            "`nlam-compat suggest --write` proves it on all references and "
            "adds it to the migrations of the repository.",
            "*_ test_outputs_float32[[]0.7.0-graph_lam[]] _*",
        ]
    )
    # With the failure, and in the summary.
    assert result.stdout.str().count("How to fix it, ") == 2
    # Once more in the record of the check that showed it.
    report = (project.folder / "report.xml").read_text()
    assert report.count('name="nlam_suggestion" value="Migration(') == 1


def test_no_step_is_shown_where_none_is_verified(project):
    project.neural_lam(EPSILON)
    result = project.run(*ONE, "--nlam-compat", "-k", "test_outputs")
    assert "Why:" in result.outlines
    assert "How to fix it" not in result.stdout.str()
    assert "Migration(" not in result.stdout.str()


def test_an_early_reference_names_the_cause_of_a_newer_one(project):
    project.neural_lam(EPSILON)
    result = project.run(
        "--nlam-compat",
        "--nlam-compat-release===0.2.0",
        "--nlam-compat-case=hi_lam",
        "-k",
        "test_outputs[",
    )
    assert failed(result) == {"test_outputs"}
    result.stdout.fnmatch_lines(
        [
            "0.2.0-hi_lam: the current code gives other outputs than *",
            f"  cause: {CAUSE}",
            "  differs first in: grid_embedder.3 (LayerNorm)",
            "  shown by: 0.4.0-hi_lam; 0.2.0-hi_lam holds no trace",
            f"FAILED nlam-compat: {CAUSE}, 1 reference",
            "  in 0.2.0-hi_lam",
        ]
    )
