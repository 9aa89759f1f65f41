"""The closing matrix, from what the checks of each reference reported."""

import re

import pytest
from packaging.version import Version

from pytest_nlam_compat.reports.matrix import Cell, colour, render
from pytest_nlam_compat.reports.results import NOT_RUN, cell_of

NEWEST = Version("0.7.0")


def cell(*checks):
    """Make a cell of (check, passed, what it found)."""
    nothing = {"native": {}, "shares": {}}
    made = [
        {"name": name, "outcome": "passed" if passed else "failed"}
        | nothing
        | found
        for name, passed, found in checks
    ]
    return cell_of({"void": "", "checks": made})


def native(outcome, passed=True):
    return ("test_native", passed, {"native": {"outcome": outcome}})


def outputs(share, passed=True):
    return ("test_outputs", passed, {"shares": {"float64": share}})


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        ([], "-"),
        ([native("equal"), outputs(0.0)], "ok/0%"),
        ([native("differs"), outputs(3e-6)], "wrong/<1%"),
        ([native("fails"), outputs(1e-4)], "no/<1%"),
        ([native("equal"), outputs(0.25), outputs(0.031)], "ok/25%"),
        ([native("equal"), ("test_outputs", True, {})], "ok/ok"),
        ([native("equal"), outputs(1.7, passed=False)], "ok/FAIL"),
    ],
)
def test_cell_shows_both_routes_and_the_largest_share(reports, text):
    assert str(cell(*reports)) == text


@pytest.mark.parametrize(
    ("outcome", "text"),
    [("differs", "WRONG/0%"), ("fails", "NO/0%")],
)
def test_native_route_that_should_work_is_in_capitals(outcome, text):
    assert str(cell(native(outcome, passed=False), outputs(0.0))) == text


def test_failure_before_the_native_route_is_tried_is_one_of_it():
    assert str(cell(("test_native", False, {}))) == "FAIL/-"


def test_route_that_was_deselected_is_not_said_to_work():
    assert str(cell(native("equal"))) == "ok/-"
    assert str(cell(outputs(0.5))) == "-/50%"


@pytest.mark.parametrize("check", ["test_opens", "test_loads", "test_batch"])
def test_route_is_not_said_to_work_without_a_rollout(check):
    passed = (check, True, {"shares": {"batch": 0.1}})
    assert str(cell(passed)) == "-/-"
    assert str(cell(native("equal"), passed)) == "ok/-"
    assert str(cell((check, False, {}))) == "-/FAIL"


def test_check_that_was_not_run_says_nothing():
    for outcome in NOT_RUN, "skipped":
        assert str(cell(("test_outputs", True, {"outcome": outcome}))) == "-"


def test_void_case_is_void_and_says_why_once():
    void = Cell(void="it can't run (#1)")
    green = cell(native("equal"), outputs(0.0))
    cells = {
        (Version("0.6.0"), "hi_lam"): void,
        (Version("0.6.0"), "hi_lam-3level"): void,
        (NEWEST, "hi_lam"): green,
    }

    assert list(render(cells, 80, merge=False)) == [
        "               0.6.0  0.7.0",
        "hi_lam          void  ok/0%",
        "hi_lam-3level   void",
        "",
        "native/migrated: ok, no = does not load or run, - = was not run, "
        "wrong =",
        "other outputs and no error; in capitals if it fails; %: of the "
        "tolerance",
        "void: 0.6.0-hi_lam, 0.6.0-hi_lam-3level: it can't run (#1)",
    ]


def test_releases_and_cases_are_sorted_as_such():
    cells = {
        (Version(release), case): cell(outputs(0.0))
        for release in ("0.10.0", "0.9.0")
        for case in ("hi_lam", "graph_lam")
    }

    head, first, second = list(render(cells, 80, merge=False))[:3]

    assert head.split() == ["0.9.0", "0.10.0"]
    assert first.startswith("graph_lam ")
    assert second.startswith("hi_lam ")


def test_cases_whose_cells_are_equal_share_a_row():
    failed = ("test_loads", False, {})
    cells = {(NEWEST, case): cell(failed) for case in "abc"}
    cells |= {(NEWEST, "d"): cell(outputs(0.0))}

    table = list(render(cells, 80, merge=True))[1:3]

    assert [row.split() for row in table] == [
        *(["a", "+2", "-/FAIL"], ["d", "-/0%"])
    ]


def test_void_cases_are_counted_where_all_has_to_fit_a_screen():
    cells = {(NEWEST, case): Cell(void="it can't run") for case in "abc"}
    *_, last = render(cells, 80, merge=True)
    assert last == "void: 3 cases that a release can't run; -v shows why"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("ok/0%", "green"), ("no/<1%", "green"), ("ok/ok", "green")),
        *(("NO/0%", "red"), ("wrong/FAIL", "red"), ("-/FAIL", "red")),
        *(("wrong/2%", "yellow"), ("void", "yellow"), ("-", ""), ("", "")),
    ],
)
def test_a_cell_has_the_colour_of_its_outcome(text, name):
    assert colour(text) == name


def test_twenty_releases_fit_a_hundred_columns_in_colour():
    releases = [f"0.{minor}.0" for minor in range(20)]
    red = ("test_outputs", False, {})
    cells = {
        (Version(release), case): cell(native("differs", passed=False), red)
        for release in releases
        for case in ("graph_lam-propagation", "hi_lam_parallel-clamp")
    }
    plain = list(render(cells, 100, merge=False))
    painted = list(
        render(
            cells,
            100,
            merge=False,
            paint=lambda text, name: f"\x1b[{name}m{text}\x1b[0m",
        )
    )
    assert [re.sub("\x1b.*?m", "", line) for line in painted] == plain
    table = plain[: plain.index("") * 3]
    assert max(map(len, table)) <= 100
    # Each release has its column, with the cell right below its name.
    heads = [line for line in table if line.strip().startswith("0.")]
    assert " ".join(heads).split() == releases
    for head, row in zip(heads, table[1::4], strict=False):
        assert [m.end() for m in re.finditer(r"\S+", head)] == [
            m.end() for m in re.finditer(r"WRONG/FAIL", row)
        ]
    assert "\x1b[redmWRONG/FAIL\x1b[0m" in painted[1]


@pytest.mark.parametrize("width", [20, 40, 60, 120])
def test_columns_that_do_not_fit_go_into_a_block_below(width):
    releases = [f"0.{minor}.0" for minor in range(20)]
    cells = {
        (Version(release), "hi_lam"): cell(native("equal"), outputs(0.0))
        for release in releases
    }

    lines = list(render(cells, width, merge=False))
    table = lines[: [line[:7] for line in lines].index("native/")]

    assert all(len(line) <= width for line in table)
    assert " ".join(table[0::3]).split() == releases
    assert all(line.startswith("hi_lam") for line in table[1::3])
    assert " ".join(table[1::3]).count("ok/0%") == len(releases)


def test_one_column_is_shown_however_narrow_it_is():
    cells = {(NEWEST, "graph_lam"): cell(outputs(0.0))}

    assert list(render(cells, 5, merge=False))[:3] == [
        "          0.7.0",
        "graph_lam -/0%".replace(" -", "  -"),
        "",
    ]
