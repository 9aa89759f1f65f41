"""A few mutants of each kind in the test suite; `nox -s mutants` runs all."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from harmless import HARMLESS
from refactorings import REFACTORINGS
from tables import ALL, BREAKING

from pytest_nlam_compat.diagnosis.diagnosis import Kind

FEW = (
    "module renamed",
    "two modules of one shape renamed, misleadingly",
    "states exchanged",
    "layer norm of another epsilon",
    "edge features of the other sign",
    "boundary left alone",
    "edges of the mesh reversed",
    "gelu, 0.2.0-hi_lam",
    "old names no longer converted, silently",
    "arguments not saved",
    "embedder factorised",
    "aggregation by another default",
    "renamed and registered in the other order",
    "graph layers exchange their names",
    "sharper softplus",
    "sum in another order",
)
# Of a check that says of itself what is wrong, and where no cause is found.
NOT_OF_MUTANTS = {"none", "unknown"}
HAPPENED = (
    "renamed",
    "exchanged",
    "split",
    "fused",
    "stacked",
    "transposed",
    "factorised",
    "columns added",
    "columns removed",
    "added",
    "dropped",
)


def test_there_are_enough():
    assert len(BREAKING) >= 40
    assert len(HARMLESS) >= 15
    assert len(REFACTORINGS) >= 13
    names = [mutant.name for mutant in ALL]
    assert len(set(names)) == len(names)


def test_each_cause_has_a_mutant():
    kinds = {mutant.kind for mutant in BREAKING} - {""}
    assert kinds == set(get_args(Kind)) - NOT_OF_MUTANTS
    assert not any(mutant.kind for mutant in (*HARMLESS, *REFACTORINGS))


@pytest.mark.parametrize("what", HAPPENED)
def test_each_way_not_to_load_has_a_mutant(what):
    said = [m.says for m in BREAKING if m.kind == "loading"]
    assert any(text.startswith(what) for text in said)


@pytest.mark.neural_lam
@pytest.mark.slow
def test_a_few(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).parent, "--", *FEW],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    print(done.stdout, done.stderr)
    *_, verdict, cause, step, _ = done.stdout.splitlines()
    assert verdict == "verdict: 16 of 16"
    assert cause == "cause: 15 of 15"
    assert step == "step: 8 of 8"
    assert done.returncode == 0
