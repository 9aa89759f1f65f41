"""The plugin in a run that did not ask for it, and what it tells of itself."""

import json
import os
import subprocess
import sys

import pytest
from nlam_runs import Project

HEAVY = {"torch", "numpy", "pooch", "neural_lam", "safetensors"}
COUNT = """
import json, sys
import pytest
status = pytest.main(sys.argv[1:])
print()
print(json.dumps(sorted(sys.modules)))
sys.exit(status)
"""


@pytest.fixture
def modules(tmp_path):
    """Count the modules of a run on an empty test file."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_empty.py").touch()

    def imported(*args, **environment):
        run = subprocess.run(
            [sys.executable, "-c", COUNT, *args],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
        return set(json.loads(run.stdout.splitlines()[-1]))

    return imported


def test_without_the_flag_costs_at_most_five_modules(modules):
    added = modules() - modules("-p", "no:nlam_compat")

    assert added == {
        "pytest_nlam_compat",
        "pytest_nlam_compat.fixtures",
        "pytest_nlam_compat.hookspecs",
        "pytest_nlam_compat.plugin",
    }


def test_without_the_flag_imports_nothing_heavy(modules):
    # Alone: other plugins of an environment import numpy by themselves.
    found = modules(
        "-p", "pytest_nlam_compat.plugin", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
    )

    assert "pytest_nlam_compat.plugin" in found
    assert not found & HEAVY


def test_help_shows_every_option(project):
    result = project.run("--help")

    result.stdout.fnmatch_lines(
        [
            "checkpoints of all neural-lam releases:",
            "  --nlam-compat *check that the checkpoints of every neural-lam*",
            "  --nlam-compat-release=SPEC",
            "  --nlam-compat-case=GLOB",
            "  --nlam-compat-device={cpu,cuda,auto}",
            "  --nlam-compat-shard=I/N",
            "  --nlam-compat-url=URL",
            "  --nlam-compat-offline",
            "  nlam_compat_url (string):",
        ]
    )


def test_markers_show_ours(project):
    result = project.run("--markers")

    result.stdout.fnmatch_lines(
        ["@pytest.mark.nlam_compat: a check against references of neural-lam"]
    )


@pytest.mark.parametrize(
    "lines",
    [
        (
            "nlam_reference [[]session scope[]] -- *fixtures.py:*",
            "    One frozen case of one neural-lam release, for each that is "
            "selected.",
            "        def test_has_an_optimizer(nlam_reference):",
        ),
        (
            "nlam_batch -- *fixtures.py:*",
            "    Return the recorded batch, in float64, on the device of "
            "`nlam_model`.",
        ),
        (
            "nlam_model -- *fixtures.py:*",
            "    Return the model of the current code with the reference's "
            "weights.",
            "            nlam_check(prediction=prediction)",
        ),
        (
            "nlam_check -- *fixtures.py:*",
            "    Compare named tensors with the golden of the reference.",
        ),
    ],
    ids=lambda lines: lines[0].split()[0],
)
def test_fixtures_are_documented(listed, lines):
    listed.stdout.fnmatch_lines(lines)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("own")).run("--fixtures", "-v")
