"""What a report says of a run: never that it passed where it did not."""

import pytest
from made_results import check, failed, native, red, reference, results

from pytest_nlam_compat.reports.results import (
    cell_of,
    checks_with_maps,
    passed,
    verdict,
)

NOT_RUN = check(outcome="not run")


def whole():
    """Make a reference of which both routes were checked."""
    return reference("0.7.0-hi_lam", native("equal"), check())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (results(whole()), "1 reference passed"),
        (results(), "1 reference passed the checks that were selected"),
        (red(), "1 of 1 reference failed"),
        (results(references=[]), "nothing was checked"),
        (
            results(reference("0.6.0-hi_lam", void="it can't run")),
            "nothing was checked",
        ),
        (results(incomplete="Ctrl-C"), "Incomplete: no failure so far"),
        (red(incomplete="Ctrl-C"), "Incomplete: 1 of 1 reference failed"),
        (
            results(other_checks=[failed("test_registry")]),
            "checks of migrations failed",
        ),
        (results(whole(), shards=["1/4"]), "Shard 1/4: 1 reference passed"),
        (results(whole(), shards=["1/2", "2/2"]), "1 reference passed"),
    ],
)
def test_verdict(found, said):
    assert verdict(found) == said
    assert passed(found) == ("1 reference passed" in said)


def test_error_of_a_setup_is_a_failure():
    found = results(reference("0.7.0-hi_lam", check(outcome="error")))
    assert verdict(found) == "1 of 1 reference failed"


@pytest.mark.parametrize(
    ("checks", "text"),
    [
        ([native("equal"), check()], "ok/25%"),
        ([native("fails", outcome="failed"), failed()], "NO/FAIL"),
        ([native("equal"), NOT_RUN], "ok/-"),
        ([NOT_RUN], "-"),
        ([check(outcome="skipped")], "-"),
        ([check(shares={"float64": None}, outcome="failed")], "-/FAIL"),
    ],
)
def test_cell_is_that_of_the_terminal(checks, text):
    assert str(cell_of(reference("0.7.0-hi_lam", *checks))) == text


def test_maps_are_those_of_failures_or_else_of_the_largest_share():
    silent = native("differs", map=check()["map"])
    small, large = check(share=0.1), check("test_outputs_float32", share=0.4)
    bad = failed()

    def names(*checks):
        found = checks_with_maps(reference("0.7.0-hi_lam", *checks))
        return [each["name"] for each in found]

    assert names(small, large) == ["test_outputs_float32"]
    assert names(bad, large) == ["test_outputs"]
    # Wrong forecasts without an error are worth a picture, too.
    assert names(silent, large) == ["test_native", "test_outputs_float32"]
    assert names(check(map=None)) == []
