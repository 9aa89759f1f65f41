"""Several workers: each reference on one, and other tests wherever."""

import re
import subprocess
import sys

import pytest
from nlam_runs import ONE

THREE = (
    "--nlam-compat",
    "--nlam-compat-release===0.7.0",
    "--nlam-compat-case=graph_lam-s[qt]*",
    "-n2",
)
OWN = """
import os

import pytest


@pytest.mark.parametrize("number", range(20))
def test_own(number):
    pass


def test_that_dies():
    os._exit(3)
"""

pytestmark = pytest.mark.slow


def workers(result):
    """Return by which workers the tests of each parameter were run."""
    found = {}
    pattern = r"^\[(gw\d)\].* (?:PASSED|FAILED) (\S+)"
    for worker, test in re.findall(pattern, result.stdout.str(), re.MULTILINE):
        name = test.rpartition("[")[2].removesuffix("]")
        found.setdefault(name, set()).add(worker)
    return found


def test_who_hands_out_tests_imports_neither_torch_nor_neural_lam():
    module = "pytest_nlam_compat.checks.distribution"
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert module in done.stdout.split()
    assert not {"torch", "neural_lam"} & {*done.stdout.split()}


def test_checks_of_a_reference_are_on_one_worker(project):
    result = project.run(*THREE)

    found = workers(result)
    references = {name: on for name, on in found.items() if name[:1] == "0"}
    assert result.ret == 0
    assert len(references) == 3
    assert all(len(on) == 1 for on in references.values())
    assert len(set.union(*references.values())) == 2
    # Only once, whoever prints it.
    header = "nlam-compat: 3 references of 0.7.0*"
    result.stdout.fnmatch_lines([header])
    assert result.stdout.str().count("3 references of") == 1


def test_other_tests_are_on_all_workers_and_one_that_dies_is_run_once(project):
    project.write("test_own.py", OWN)

    result = project.run(
        *THREE, "test_own.py", "-ktest_own or test_that or opens"
    )

    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (23, 1)
    assert result.stdout.str().count("replacing crashed worker") == 1


def test_a_distribution_that_the_user_chose_is_kept(project):
    project.write("pytest.ini", "[pytest]\naddopts = --dist=loadfile\n")

    # One file, so one worker.
    found = workers(project.run(*THREE, "-kopens or loads"))

    assert len(set.union(*found.values())) == 1


def test_an_error_of_the_options_ends_the_run(project):
    result = project.run(*ONE, "--nlam-compat-shard=1/2", "-n2")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "leaves shards without a reference" in result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()
