"""A few mutants of each kind in the test suite; `nox -s mutants` runs all."""

import subprocess
import sys
from pathlib import Path

import pytest
from breaking_loading import LOADING
from breaking_numbers import NUMBERS
from harmless import HARMLESS

FEW = (
    "module renamed",
    "two modules of one shape renamed, misleadingly",
    "states exchanged",
    "layer norm of another epsilon",
    "edge features of the other sign",
    "boundary left alone",
    "sum in another order",
)


def test_there_are_enough():
    assert len(LOADING) + len(NUMBERS) >= 40
    assert len(HARMLESS) >= 15
    names = [mutant.name for mutant in (*LOADING, *NUMBERS, *HARMLESS)]
    assert len(set(names)) == len(names)


@pytest.mark.neural_lam
def test_a_few(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).parent, "--", *FEW],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    print(done.stdout, done.stderr)
    *_, verdict, cause, step, _ = done.stdout.splitlines()
    assert verdict == "verdict: 7 of 7"
    assert cause == "cause: 6 of 6"
    assert step == "step: 4 of 4"
    assert done.returncode == 0
