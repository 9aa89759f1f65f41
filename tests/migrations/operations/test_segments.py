import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nlam_compat.migrations.operations.segments import (
    Match,
    check_same_wildcards,
    covers,
    fill,
    match,
)

SEGMENT = st.text("abc_0", min_size=1, max_size=4)
NAME = st.lists(SEGMENT, min_size=1, max_size=4).map(".".join)


def test_a_pattern_covers_what_is_inside_of_a_module():
    assert match("g2m_gnn.grid_mlp", "g2m_gnn.grid_mlp.0.weight") == Match(
        (), ".0.weight"
    )
    assert match("g2m_gnn.grid_mlp", "g2m_gnn.grid_mlp") == Match((), "")


@pytest.mark.parametrize(
    "name",
    [
        "g2m_gnn.grid_mlp_extra.0.weight",
        "g2m_gnn",
        "my_g2m_gnn.grid_mlp.0.weight",
        "under.g2m_gnn.grid_mlp.0.weight",
        "g2m_gnnXgrid_mlp.0.weight",
    ],
)
def test_a_pattern_takes_whole_segments_from_the_start(name):
    assert not covers("g2m_gnn.grid_mlp", name)


def test_a_wildcard_stays_within_its_segment():
    assert match("gnns.*.mlp", "gnns.0.mlp.bias") == Match(("0",), ".bias")
    assert not covers("gnns.*.mlp", "gnns.0.1.mlp.bias")
    assert match("module_*", "module_12.bias") == Match(("12",), ".bias")
    assert not covers("module_*", "module_.bias")


@pytest.mark.parametrize("pattern", ["", ".", "a..b", "a."])
def test_a_pattern_with_an_empty_segment_is_refused(pattern):
    with pytest.raises(ValueError, match="The pattern has an empty segment"):
        match(pattern, "a")


def test_captures_fill_another_pattern_in_order():
    found = match("up.*.*", "up.0.1.bias")
    assert found is not None
    assert fill("gnns.*.up.*", found) == "gnns.0.up.1.bias"


@given(NAME, NAME)
def test_a_plain_pattern_is_the_test_of_leading_segments(pattern, name):
    wanted = pattern.split(".")
    assert covers(pattern, name) == (name.split(".")[: len(wanted)] == wanted)


@given(NAME)
def test_filling_a_pattern_with_its_own_captures_gives_the_name(name):
    pattern = ".".join("*" for _ in name.split("."))
    found = match(pattern, name)
    assert found is not None
    assert fill(pattern, found) == name


def test_two_stars_stand_for_any_number_of_segments():
    pattern = "**.edge_mlp.**.0.weight"
    for name in (
        "edge_mlp.0.weight",
        "a.b.edge_mlp.0.weight",
        "a.edge_mlp.mlps.1.0.weight",
    ):
        assert match(pattern, name) == Match((), "")
    for name in ("a.edge_mlp.2.weight", "a.my_edge_mlp.0.weight"):
        assert match(pattern, name) is None


def test_two_stars_can_not_be_filled_in():
    with pytest.raises(ValueError, match=r"\*\* can't be filled in"):
        check_same_wildcards("**.a", "**.b")
