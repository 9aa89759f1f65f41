"""A few pull requests, with few references; `nox -s mutants` runs all."""

import pytest
from pull_requests import PULL_REQUESTS, tried

FEW = ("inputs of the message swapped", "a Linear factorised")
NO_STEP = ("default of the aggregation", "harmless refactoring")


def test_there_are_those_of_the_issue():
    assert len(PULL_REQUESTS) == 9
    assert [r.says for r in PULL_REQUESTS].count("") == 1
    # Each change is fixed by a step, or by what is advised.
    assert all(bool(r.step) != bool(r.advice) for r in PULL_REQUESTS if r.says)


@pytest.mark.neural_lam
@pytest.mark.slow
@pytest.mark.parametrize("name", [*FEW, *NO_STEP])
def test_it_is_told_in_a_screen_and_fixed(name, tmp_path):
    [request] = [r for r in PULL_REQUESTS if r.name == name]
    trial = tried(request, tmp_path, case="graph_lam")
    print(trial.output)
    assert trial.wrong == []
