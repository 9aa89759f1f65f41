"""Parameters that are registered in another order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved_runs import moment, same, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import Reorder, to_checkpoint_dict

SHAPES = {
    "x.w": (2, 1),
    "g2m.w": (3, 2),
    "g2m.b": (3,),
    "g2m_extra.b": (1,),
    "m2g.w": (3, 2),
    "m2g.b": (3,),
}


@pytest.fixture
def run():
    return saved_run(SHAPES)


def test_a_module_is_moved_with_all_that_it_holds(run):
    new = Reorder("m2g", before="g2m").apply(run)
    order = ["x.w", "m2g.w", "m2g.b", "g2m.w", "g2m.b", "g2m_extra.b"]
    assert list(new.state_dict) == order
    assert new.optimizers[0].names == order


def test_each_moment_goes_to_the_position_of_its_parameter(run):
    new = Reorder("m2g", before="g2m").apply(run)
    state = to_checkpoint_dict(new)["optimizer_states"][0]["state"]
    assert state[1]["exp_avg"] is moment(run, "m2g.w", "exp_avg")
    assert state[3]["exp_avg_sq"] is moment(run, "g2m.w", "exp_avg_sq")


def test_nothing_but_the_order_changes(run):
    new = Reorder("m2g.b", before="m2g.w").apply(run)
    assert list(new.state_dict)[-2:] == ["m2g.b", "m2g.w"]
    assert same(Reorder("m2g.w", before="m2g.b").apply(new), run)
    assert list(run.state_dict) == list(SHAPES)


def test_wildcards_are_filled_in_order():
    names = ("g.0.a", "g.0.b", "g.1.a", "g.1.b")
    run = saved_run(dict.fromkeys(names, (1,)))
    new = Reorder("g.*.b", before="g.*.a").apply(run)
    assert new.optimizers[0].names == ["g.0.b", "g.0.a", "g.1.b", "g.1.a"]


def test_buffers_have_an_order_and_no_position():
    run = saved_run({"a.w": (1,), "b.clamp_lower_idx": (1,), "b.w": (1,)})
    new = Reorder("b", before="a").apply(run)
    assert list(new.state_dict) == ["b.clamp_lower_idx", "b.w", "a.w"]
    assert new.optimizers[0].names == ["b.w", "a.w"]


@pytest.mark.parametrize(
    ("names", "before", "missing"),
    [("z", "x", "z"), ("x", "z", "z"), ("g2m", "g2m.w", "g2m.w")],
)
def test_what_is_not_there_is_refused(names, before, missing, run):
    with pytest.raises(CompatError) as caught:
        Reorder(names, before=before).apply(run)
    assert str(caught.value) == (
        f"Nothing in the saved run matches {missing!r}.\n"
        f"  operation: Reorder({names!r}, {before!r})\n"
        "  names: x.w, g2m.w, g2m.b and 3 more\n"
        "Correct the pattern, or the predicate of its migration."
    )


def test_both_patterns_have_as_many_wildcards():
    with pytest.raises(ValueError, match="same number of wildcards"):
        Reorder("g.*.b", before="g.a")


@given(
    st.permutations(list("abcdef")),
    st.lists(st.sampled_from("abcdef"), min_size=2, max_size=2, unique=True),
)
def test_it_stands_directly_before_and_the_others_keep_their_order(order, two):
    moved, before = two
    run = saved_run({f"{name}.w": (1,) for name in order})
    names = Reorder(moved, before=before).apply(run).optimizers[0].names
    place = names.index(f"{moved}.w")
    assert names[place + 1] == f"{before}.w"
    assert [n for n in names if n != f"{moved}.w"] == [
        f"{name}.w" for name in order if name != moved
    ]
