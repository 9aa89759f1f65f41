"""A neural_lam that can't be checked at all, and the hook that helps."""

import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from nlam_runs import CHECKOUT, ONE, cells, error_lines

FORECASTER = "models/forecasters/autoregressive.py"
HOOK = """
from pytest_nlam_compat.adapters.forecaster import ForecasterAdapter

class Renamed(ForecasterAdapter):
    def unroll(self, module, init_states, forcing, boundary):
        return module.forecaster.rollout((init_states, forcing, boundary))

def pytest_nlam_compat_adapter(current):
    assert current.path.name == "neural_lam"
    return Renamed(current)
"""


def refused(result):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return error_lines(result)


def test_import_that_fails_shows_its_cause(project):
    first = "import neural_lam.gnn_layers"
    copy = project.neural_lam(
        ("__init__.py", first, f"import nowhere_to_be_found\n{first}")
    )

    assert refused(project.run(*ONE)) == [
        "ERROR: neural_lam is installed but its import fails.",
        f"  path: {copy}",
        "  cause: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        "`python -c 'import neural_lam.train_model'` shows the full traceback. "
        "Fix that first.",
    ]


def test_syntax_error_is_a_cause_too(project):
    project.neural_lam(("train_model.py", "def main(", "def main)("))

    what, _, cause, _ = refused(project.run(*ONE))
    assert what == "ERROR: neural_lam is installed but its import fails."
    assert cause.startswith("  cause: SyntaxError: ")


def test_no_neural_lam_says_how_to_install_one(tmp_path):
    # Everything that is installed here, but for neural-lam.
    site = tmp_path / "site"
    site.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for installed in Path(place).iterdir():
            if not installed.name.startswith("neural_lam"):
                (site / installed.name).symlink_to(installed)

    run = subprocess.run(
        [sys.executable, "-S", "-m", "pytest", "--nlam-compat"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{CHECKOUT}"},
        capture_output=True,
        text=True,
    )

    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert run.stdout == ""
    assert run.stderr.split("\n") == [
        "ERROR: There is no neural_lam to check: it can't be imported.",
        "Install the code under test in this environment, for example with "
        "`pip install -e .` in a clone of neural-lam.",
        "",
        "",
    ]


def test_classes_of_other_names_are_found(project):
    project.neural_lam(
        ("*", "ForecasterModule", "LimitedAreaModule"),
        ("*", "ARForecaster", "Unroller"),
        ("*", "load_forecaster_module_from", "restore_from"),
    )

    result = project.run(*ONE)

    assert result.ret == 0
    assert cells(result)["0.7.0-graph_lam"].startswith("ok/")


@pytest.fixture
def unknown(project):
    """Have a step predictor that needs what only its author knows."""
    project.neural_lam(
        (
            "train_model.py",
            "    predictor_class: type,\n",
            "    predictor_class: type,\n    topology: dict,\n",
        ),
        ("*", "build_predictor(predictor_class,", "build_predictor(None,"),
        (
            "train_model.py",
            "    ckpt_path: str,\n",
            "    ckpt_path: str,\n    topology: dict,\n",
        ),
        (
            "train_model.py",
            "    predictor = build_predictor(None, args, config, datastore)\n"
            "    forecaster = ARForecaster(predictor, datastore)\n"
            "    return",
            "    predictor = build_predictor(\n"
            "        predictor_class, topology, args, config, datastore\n"
            "    )\n"
            "    forecaster = ARForecaster(predictor, datastore)\n"
            "    return",
        ),
    )
    return project


def test_an_api_that_can_not_be_driven_is_one_error(unknown):
    what, expected, found, remedy, *hook = refused(unknown.run(*ONE))

    assert what == (
        "ERROR: The API of this neural_lam has changed: "
        "neural_lam.train_model.build_predictor can't be called, topology not "
        "known. No checkpoint was judged."
    )
    assert expected == (
        "  expected: build_predictor(predictor_class, args, config, datastore)"
    )
    assert found == (
        "  found: build_predictor(predictor_class, topology, args, config, "
        "datastore)"
    )
    assert "docs/adapters.md" in remedy
    assert any('{"topology": ...}' in line for line in hook)


def test_the_adapter_that_it_shows_drives_it(unknown):
    _, _, _, _, *hook = refused(unknown.run(*ONE))
    text = textwrap.dedent("\n".join(hook)).replace("...", "{}")
    unknown.write("conftest.py", text)

    result = unknown.run(*ONE)

    assert result.ret == 0
    assert cells(result)["0.7.0-graph_lam"].startswith("ok/")


def test_what_the_checks_need_and_do_not_find_is_one_error(project):
    project.neural_lam(("*", "CartesianGridShape", "GridShape"))

    what, cause, remedy = refused(project.run(*ONE))
    assert what == "ERROR: Importing what the checks need of neural_lam failed."
    assert cause.startswith(
        "  cause: ImportError: cannot import name 'CartesianGridShape' from "
        "'neural_lam.datastore.base'"
    )
    assert remedy.startswith("If the change is intended, ")


@pytest.fixture
def renamed(project):
    """Have a forecaster that is asked to roll out a tuple."""
    old = (
        "        init_states: torch.Tensor,\n"
        "        forcing_features: torch.Tensor,\n"
        "        boundary_states: torch.Tensor,\n"
    )
    head = f"    def forward(\n        self,\n{old}"
    project.neural_lam(
        (
            FORECASTER,
            head,
            "    def rollout(\n        self,\n        window,\n",
        ),
        (
            FORECASTER,
            "        prev_prev_state = init_states[:, 0]\n",
            "        init_states, forcing_features, boundary_states = window\n"
            "        prev_prev_state = init_states[:, 0]\n",
        ),
        (
            "models/module.py",
            "self.forecaster(\n"
            "            init_states, forcing_features, target_states\n",
            "self.forecaster.rollout(\n"
            "            (init_states, forcing_features, target_states)\n",
        ),
        ("models/forecasters/base.py", "def forward(", "def rollout("),
    )
    return project


def test_without_the_hook_a_changed_call_is_one_error(renamed):
    what, *_ = refused(renamed.run(*ONE))
    assert "the forecaster can't be rolled out" in what


def test_hook_of_a_conftest_is_used(renamed):
    renamed.write("conftest.py", HOOK)

    result = renamed.run(*ONE)

    assert result.ret == 0
    assert cells(result)["0.7.0-graph_lam"].startswith("ok/")


def test_hook_that_gives_none_leaves_it_to_the_plugin(project):
    project.write("conftest.py", "def pytest_nlam_compat_adapter(): pass")

    assert project.run(*ONE, "--collect-only").ret == 0


def test_hook_that_raises_is_shown_with_its_line(project):
    conftest = project.write(
        "conftest.py",
        "def pytest_nlam_compat_adapter(current):\n    return current.adapter",
    )

    what, cause, place, remedy = refused(project.run(*ONE))
    assert what == "ERROR: The hook pytest_nlam_compat_adapter failed."
    assert cause == (
        "  cause: AttributeError: 'CurrentCode' object has no attribute "
        "'adapter'"
    )
    assert place == (
        f"  raised in: {conftest}:2, in pytest_nlam_compat_adapter"
    )
    assert remedy.startswith("If the change is intended, ")


def test_hook_that_gives_something_else_is_told_what_to_give(project):
    project.write(
        "conftest.py",
        "def pytest_nlam_compat_adapter(current):\n    return 'forecaster'",
    )

    assert refused(project.run(*ONE)) == [
        "ERROR: The hook pytest_nlam_compat_adapter returned no adapter.",
        "  expected: an instance of a subclass of "
        "pytest_nlam_compat.adapters.adapter.Adapter, or None",
        "  found: 'forecaster'",
        "Correct the hook in the conftest.py that implements it.",
    ]


def test_a_clone_whose_neural_lam_is_not_the_imported_one(project):
    project.write("neural_lam/train_model.py", "")
    project.write("neural_lam/__init__.py", "")

    result = project.run(*ONE)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: Another neural_lam is imported than the one that is here.",
            f"  here: {project.folder / 'neural_lam'}",
        ]
    )


def test_the_judged_tree_is_named_without_a_header(project):
    copy = project.neural_lam()

    result = project.run(*ONE, "-q", "-kloads")

    result.stdout.fnmatch_lines([f"nlam-compat: neural-lam 0.7.0 * at {copy}"])
