"""Failures of one cause are told as one."""

from pytest_nlam_compat.reports.causes import Failure, group, render

CAUSE = {
    "nlam_cause": "LayerNorm gives different outputs",
    "nlam_cause_source": "a.py:3",
}
FULL = """It failed.
  missing: a lot
Fix it.

Why:
  cause: LayerNorm gives different outputs
  source: a.py:3

How to fix it:
Rename it."""
SHORT = """It failed.
  cause: LayerNorm gives different outputs
Same cause as another."""


def test_fifty_failures_of_one_cause():
    failures = [
        Failure(check, f"0.7.0-case{number}", SHORT, CAUSE)
        for number in range(25)
        for check in ("test_loads", "test_outputs")
    ]
    failures[7] = Failure("test_outputs", "0.7.0-case3", FULL, CAUSE)
    other = Failure(
        *("test_loss", "0.7.0-graph_lam", "0.7.0-graph_lam: two runs differ"),
        {},
    )
    assert list(render(group([other, *failures]))) == [
        "",
        "FAILED nlam-compat: LayerNorm gives different outputs, 25 references",
        "  in 0.7.0-case0, 0.7.0-case1, 0.7.0-case2 and 22 more",
        "  checks: test_loads, test_outputs",
        "    source: a.py:3",
        "",
        "  How to fix it:",
        "  Rename it.",
        "",
        "FAILED nlam-compat: two runs differ, 1 reference",
        "  in 0.7.0-graph_lam",
        "  checks: test_loss",
    ]


def test_no_failure():
    assert list(render(group([]))) == []
