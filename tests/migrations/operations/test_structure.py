import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inverses import inverse
from saved_runs import KINDS, moment, same, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    Add,
    AddIdentity,
    Concatenate,
    Split,
    Stack,
)

SHAPES = {"a": (5, 2), "buffer.clamp_lower_idx": (1,), "b": (3, 2)}


def test_a_new_parameter_stands_in_its_place_without_moments():
    new = Add("new", (2,), fill=0.5, before="b").apply(saved_run(SHAPES))
    assert list(new.state_dict) == ["a", "buffer.clamp_lower_idx", "new", "b"]
    assert new.optimizers[0].names == ["a", "new", "b"]
    assert "new" not in new.optimizers[0].moments
    assert new.state_dict["new"].tolist() == [0.5, 0.5]
    assert new.state_dict["new"].dtype == torch.float32


def test_a_new_parameter_stands_last_by_default():
    new = Add("new", ()).apply(saved_run(SHAPES))
    assert new.optimizers[0].names == ["a", "b", "new"]
    assert new.state_dict["new"].tolist() == 0


def test_a_new_buffer_has_no_position():
    new = Add("limits", (0,), buffer=True, before="a").apply(saved_run(SHAPES))
    assert next(iter(new.state_dict)) == "limits"
    assert new.state_dict["limits"].numel() == 0
    assert new.optimizers[0].names == ["a", "b"]


def test_what_was_added_can_be_dropped_again():
    run = saved_run(SHAPES)
    operation = Add("new", (3,), before="a")
    assert same(inverse(operation).apply(operation.apply(run)), run)


def test_adding_what_is_there_is_an_error():
    with pytest.raises(CompatError) as caught:
        Add("a", (1,)).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "The tensor 'a' exists already.\n"
        "  operation: Add('a', (1,))\n"
        "Drop or rename it first."
    )


def test_adding_before_nothing_is_an_error():
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        Add("new", (1,), before="c").apply(saved_run(SHAPES))


def test_a_split_cuts_the_moments_and_copies_the_step():
    run = saved_run(SHAPES)
    new = Split("a", {"a.0": 2, "a.1": 3}).apply(run)
    assert list(new.state_dict) == ["a.0", "a.1", "buffer.clamp_lower_idx", "b"]
    assert new.optimizers[0].names == ["a.0", "a.1", "b"]
    for kind in KINDS:
        assert torch.equal(moment(new, "a.0", kind), moment(run, "a", kind)[:2])
        assert torch.equal(moment(new, "a.1", kind), moment(run, "a", kind)[2:])
    assert moment(new, "a.1", "step") == 2


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.sampled_from([0, 1, -1]),
)
def test_a_split_and_its_inverse_are_nothing(lengths, dim):
    shape = [2, 2]
    shape[dim] = sum(lengths)
    run = saved_run({"first": (1,), "a": tuple(shape), "last": (1,)})
    operation = Split(
        "a", {f"a.{i}": n for i, n in enumerate(lengths)}, dim=dim
    )
    assert same(inverse(operation).apply(operation.apply(run)), run)


def test_a_split_that_leaves_a_part_behind_is_an_error():
    with pytest.raises(CompatError) as caught:
        Split("a", {"a.0": 2, "a.1": 2}).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "The pieces don't add up to the 5 of 'a'.\n"
        "  operation: Split('a', {'a.0': 2, 'a.1': 2})\n"
        "  pieces: 4\n"
        "Correct their lengths."
    )


def test_a_piece_may_keep_the_name_but_take_no_other():
    run = saved_run(SHAPES)
    assert "a" in Split("a", {"a": 2, "c": 3})(run.state_dict)
    with pytest.raises(CompatError, match="The tensor 'b' exists already"):
        Split("a", {"a": 2, "b": 3}).apply(run)


def test_a_split_of_nothing_is_an_error():
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        Split("c", {"c.0": 1}).apply(saved_run(SHAPES))


def test_a_split_along_no_dimension_is_an_error():
    with pytest.raises(CompatError, match="'a' has 2 dimensions"):
        Split("a", {"c": 1}, dim=2).apply(saved_run(SHAPES))


def test_what_was_reset_counts_for_every_piece_and_for_the_whole():
    run = saved_run(SHAPES)
    run.optimizers[0].reset |= {"a.exp_avg_sq": "why", "b.exp_avg_sq": "too"}
    cut = Split("a", {"c": 2, "d": 3}).apply(run)
    assert cut.optimizers[0].reset == {
        "c.exp_avg_sq": "why",
        "d.exp_avg_sq": "why",
        "b.exp_avg_sq": "too",
    }
    joined = Concatenate(("c", "d"), "a").apply(cut)
    assert joined.optimizers[0].reset == run.optimizers[0].reset


def test_tensors_are_joined_in_the_place_of_the_first():
    run = saved_run(SHAPES)
    new = Concatenate(("b", "a"), "a").apply(run)
    assert list(new.state_dict) == ["buffer.clamp_lower_idx", "a"]
    assert new.optimizers[0].names == ["a"]
    for kind in KINDS:
        assert torch.equal(
            moment(new, "a", kind),
            torch.cat((moment(run, "b", kind), moment(run, "a", kind))),
        )


def test_tensors_without_moments_are_joined_without():
    run = saved_run(SHAPES)
    run.optimizers[0].moments.clear()
    new = Concatenate(("a", "b"), "c").apply(run)
    assert new.optimizers[0].moments == {}
    assert new.optimizers[0].names == ["c"]


def test_tensors_that_were_not_updated_alike_are_an_error():
    run = saved_run(SHAPES)
    run.optimizers[0].moments["b"]["step"] = torch.tensor(3.0)
    with pytest.raises(CompatError) as caught:
        Concatenate(("a", "b"), "c").apply(run)
    assert str(caught.value) == (
        "The tensors were not updated alike, so no step count fits all of "
        "them.\n"
        "  operation: Concatenate(('a', 'b'), 'c')\n"
        "  steps: 2.0, 3.0\n"
        "Migrate without its state: nlam-compat upgrade --drop-optimizer."
    )
    del run.optimizers[0].moments["b"]
    with pytest.raises(CompatError, match="not updated alike"):
        Concatenate(("a", "b"), "c").apply(run)


def test_tensors_are_stacked_with_their_moments():
    run = saved_run({"a": (3, 2), "b": (3, 2)})
    new = Stack(("b", "a"), "c").apply(run)
    assert list(new.state_dict) == new.optimizers[0].names == ["c"]
    assert new.state_dict["c"].shape == (2, 3, 2)
    for kind in KINDS:
        pieces = moment(run, "b", kind), moment(run, "a", kind)
        assert torch.equal(moment(new, "c", kind), torch.stack(pieces))


def test_tensors_of_other_shapes_are_not_stacked():
    with pytest.raises(CompatError, match="don't fit together"):
        Stack(("a", "b"), "c").apply(saved_run(SHAPES))


def test_tensors_that_do_not_fit_are_an_error():
    with pytest.raises(CompatError) as caught:
        Concatenate(("a", "b"), "c", dim=1).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "The shapes of the tensors don't fit together.\n"
        "  operation: Concatenate(('a', 'b'), 'c', dim=1)\n"
        "  shapes: (5, 2), (3, 2)\n"
        "Correct the names or the dimension."
    )


def test_joining_onto_another_name_is_an_error():
    run = saved_run(SHAPES | {"c": (1, 2)})
    with pytest.raises(CompatError, match="The tensor 'c' exists already"):
        Concatenate(("a", "b"), "c").apply(run)
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        Concatenate(("a", "d"), "e").apply(run)


@pytest.mark.parametrize("after", [False, True])
def test_an_identity_makes_two_of_one_linear(after):
    run = saved_run({"x.weight": (1,), "b.weight": (2, 3), "c.weight": (1, 2)})
    operation = AddIdentity("a", "b", after=after)
    new = operation.apply(run)
    old, two = run.state_dict["b.weight"], new.state_dict
    factors = (two["a.weight"], two["b.weight"])
    first, last = factors[::-1] if after else factors
    assert torch.equal(last @ first, old)
    order = ["b", "a"] if after else ["a", "b"]
    names = ["x.weight", *(f"{name}.weight" for name in order), "c.weight"]
    assert list(two) == new.optimizers[0].names == names
    # The old one keeps its moments, and the new one has none yet.
    assert new.optimizers[0].moments == run.optimizers[0].moments
    with pytest.raises(CompatError, match="exists already"):
        operation.apply(new)


def test_a_split_in_equal_pieces_fits_every_width():
    operation = Split("a", ("b", "c"))
    for width in (2, 6):
        new = operation.apply(saved_run({"a": (width, 3)}))
        shapes = [tuple(t.shape) for t in new.state_dict.values()]
        assert shapes == [(width // 2, 3)] * 2
    with pytest.raises(CompatError, match="don't add up to the 3"):
        operation.apply(saved_run({"a": (3,)}))


def test_a_tensor_as_large_as_another():
    operation = Add("c", "b", fill=1.0)
    assert operation({"b": torch.zeros(5)})["c"].tolist() == [1.0] * 5
    with pytest.raises(CompatError, match="matches 'b'"):
        operation({})
