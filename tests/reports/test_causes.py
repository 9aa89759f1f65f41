"""Failures of one cause are told as one."""

from pytest_nlam_compat.reports.causes import group, render

CAUSE = {
    "nlam_cause": "LayerNorm gives different outputs",
    "nlam_cause_source": "a.py:3",
}


def test_fifty_failures_of_one_cause():
    failed = [(f"0.7.0-case{i}", CAUSE) for i in range(25) for _ in range(2)]
    other = ("0.7.0-graph_lam", {"nlam_cause": "two runs differ"})
    assert list(render(group([other, *failed]))) == [
        "",
        "2 causes",
        "  50 failures: LayerNorm gives different outputs",
        "    at a.py:3",
        "    in 0.7.0-case0, 0.7.0-case1, 0.7.0-case2, 0.7.0-case3, "
        "0.7.0-case4, 0.7.0-case5 and 19 more",
        "  1 failure: two runs differ",
        "    in 0.7.0-graph_lam",
        "  nlam-compat suggest searches for a migration that fixes it",
    ]


def test_no_failure_and_failures_without_a_cause():
    assert list(render(group([]))) == []
    assert list(render(group([("0.7.0-graph_lam", {})]))) == []
