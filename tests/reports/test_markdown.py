"""Markdown shows values as they are, and keeps within a limit."""

import re

import pytest
from made_results import CAUSE, check, failed, red, reference, results

from pytest_nlam_compat.reports.markdown import markdown


def test_green_and_red():
    green = markdown(results())
    assert green.startswith("## ✅ neural-lam checkpoints: 1 reference")
    assert "| hi&#95;lam | -/25% |" in green
    told = markdown(red())
    assert told.startswith("## ❌ ")
    assert "### LayerNorm gives different outputs, 1 reference" in told
    assert "source: neural_lam/a.py:3" in told
    assert "2e+07 times" in told


@pytest.mark.parametrize(
    "nasty",
    [
        "a | b",
        "<img src=x onerror=alert(1)>",
        "[link](https://example.org) @someone #1",
        "*bold* _it_ `code` ~~no~~ ![x](y) $x$",
    ],
)
def test_what_comes_from_files_is_text(nasty):
    bad = failed(message=f"{nasty}\nmore")
    found = red(references=[reference("0.7.0-hi_lam", bad)])
    found["current"]["branch"] = nasty
    text = markdown(found)
    assert nasty not in text
    # Each special sign is an entity, so a table keeps its columns.
    (row,) = (r for r in text.splitlines() if r.startswith("| branch"))
    assert re.fullmatch(r"\| branch \| [^|<>\[\]*_`@~$!]+ \|", row)


def test_fence_is_longer_than_any_within():
    nasty = {**CAUSE, "explanation": "```\n# title\n````"}
    text = markdown(red(causes=[nasty]))
    fences = [line for line in text.splitlines() if line.startswith("`" * 5)]
    assert fences == ["`````text", "`````"]


def test_incomplete_run_is_not_green():
    text = markdown(results(incomplete="24 of 30 checks were not run."))
    assert text.startswith("## ❌ neural-lam checkpoints: Incomplete")
    assert "24 of 30 checks were not run." in text


def test_void_case_says_why():
    void = reference("0.6.0-hi_lam", void="it can't run (#643)")
    text = markdown(results(reference(), void))
    assert "void: 0.6.0-hi&#95;lam: it can't run" in text
    assert "| hi&#95;lam | void | -/25% |" in text


def test_share_that_is_not_finite_is_named():
    bad = check(outcome="failed", shares={"float64": None})
    assert "float64: not finite" in markdown(
        results(reference("0.7.0-hi_lam", bad))
    )
