import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inverses import inverse
from saved_runs import everything, moment, same, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import Drop, MoveUnder, Rename

SHAPES = {
    "g2m_gnn.grid_mlp.0.weight": (2, 3),
    "g2m_gnn.grid_mlp.0.bias": (2,),
    "g2m_gnn.grid_mlp_extra.0.weight": (2, 2),
    "processor.module_0.mlp.weight": (1, 2),
    "processor.module_1.mlp.weight": (2, 1),
}
SEGMENT = st.text("ab", min_size=1, max_size=2)
NAMES = st.lists(
    st.lists(SEGMENT, min_size=1, max_size=3).map(".".join),
    min_size=1,
    max_size=6,
    unique=True,
)
PATTERN = st.lists(SEGMENT | st.just("*"), min_size=1, max_size=2).map(".".join)


def test_a_module_is_renamed_with_moments_and_position():
    run = saved_run(SHAPES)
    new = Rename("g2m_gnn.grid_mlp", "encoding_grid_mlp").apply(run)
    names = [
        "encoding_grid_mlp.0.weight",
        "encoding_grid_mlp.0.bias",
        "g2m_gnn.grid_mlp_extra.0.weight",
        "processor.module_0.mlp.weight",
        "processor.module_1.mlp.weight",
    ]
    assert list(new.state_dict) == names
    assert new.optimizers[0].names == names
    assert torch.equal(
        moment(new, "encoding_grid_mlp.0.bias", "exp_avg_sq"),
        moment(run, "g2m_gnn.grid_mlp.0.bias", "exp_avg_sq"),
    )


def test_the_run_given_stays_as_it_is():
    run, untouched = saved_run(SHAPES), saved_run(SHAPES)
    Rename("processor", "core").apply(run)
    MoveUnder("top").apply(run)
    Drop("processor").apply(run)
    assert same(run, untouched)


def test_wildcards_carry_numbers_over():
    new = Rename("processor.module_*.mlp", "gnns.*")(
        saved_run(SHAPES).state_dict
    )
    assert list(new)[3:] == ["gnns.0.weight", "gnns.1.weight"]


def test_moments_that_were_reset_are_renamed_too():
    run = saved_run(SHAPES)
    run.optimizers[0].reset["processor.module_0.mlp.weight.exp_avg_sq"] = "why"
    new = Rename("processor", "core").apply(run)
    assert new.optimizers[0].reset == {
        "core.module_0.mlp.weight.exp_avg_sq": "why"
    }


def test_a_rename_that_matches_nothing_is_an_error():
    with pytest.raises(CompatError) as caught:
        Rename("grid_mlp", "mlp").apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "Nothing in the saved run matches 'grid_mlp'.\n"
        "  operation: Rename('grid_mlp', 'mlp')\n"
        "  names: g2m_gnn.grid_mlp.0.weight, g2m_gnn.grid_mlp.0.bias, "
        "g2m_gnn.grid_mlp_extra.0.weight and 2 more\n"
        "Correct the pattern, or the predicate of its migration."
    )


def test_a_rename_onto_a_tensor_is_an_error():
    with pytest.raises(CompatError) as caught:
        Rename("a.weight", "b.weight").apply(
            saved_run({"a.weight": (1,), "b.weight": (1,)})
        )
    assert str(caught.value) == (
        "Two tensors would be named 'b.weight'.\n"
        "  operation: Rename('a.weight', 'b.weight')\n"
        "  first: a.weight\n"
        "  second: b.weight\n"
        "Drop or rename one of them first."
    )


def test_a_tensor_left_behind_by_its_module_is_an_error():
    run = saved_run({"a.weight": (1,), "a.bias": (1,)})
    with pytest.raises(CompatError) as caught:
        Rename("a.weight", "b.weight").apply(run)
    assert str(caught.value) == (
        "The rename would leave a tensor of the same module behind.\n"
        "  operation: Rename('a.weight', 'b.weight')\n"
        "  moved: a.weight\n"
        "  left: a.bias\n"
        "Rename the whole module, or set alone=True."
    )
    assert list(Rename("a.weight", "b.weight", alone=True)(run.state_dict)) == [
        "b.weight",
        "a.bias",
    ]


def test_a_tensor_may_be_renamed_inside_of_its_module():
    run = saved_run({"a.weight": (1,), "a.bias": (1,)})
    assert list(Rename("a.weight", "a.w")(run.state_dict)) == ["a.w", "a.bias"]


def test_joining_another_module_is_an_error():
    run = saved_run({"a.weight": (1,), "b.bias": (1,)})
    with pytest.raises(CompatError) as caught:
        Rename("a", "b").apply(run)
    assert str(caught.value) == (
        "'b' already names something else.\n"
        "  operation: Rename('a', 'b')\n"
        "  there: b.bias\n"
        "Rename what is there first, or drop it."
    )


def test_patterns_with_unlike_wildcards_are_refused():
    with pytest.raises(ValueError, match="same number of wildcards"):
        Rename("a.*", "b")


@given(NAMES, PATTERN, PATTERN)
def test_a_rename_is_injective_and_its_inverse_gives_the_run_back(
    names, old, new
):
    run = saved_run(dict.fromkeys(names, (1,)))
    try:
        operation = Rename(old, new, alone=True)
        renamed = operation.apply(run)
    except (ValueError, CompatError):
        return
    assert len(everything(renamed)) == len(everything(run))
    back = inverse(operation)
    assert same(back.apply(renamed), run)


def test_everything_moves_under_a_parent():
    run = saved_run(SHAPES)
    new = MoveUnder("forecaster.predictor").apply(run)
    assert list(new.state_dict) == [f"forecaster.predictor.{n}" for n in SHAPES]
    assert new.optimizers[0].names == list(new.state_dict)
    back = inverse(MoveUnder("forecaster.predictor"))
    assert same(back.apply(new), run)


def test_moving_twice_is_an_error():
    once = MoveUnder("top").apply(saved_run(SHAPES))
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        MoveUnder("top").apply(once)


def test_moving_to_where_something_is_is_an_error():
    run = saved_run({"top.a": (1,), "b": (1,)})
    with pytest.raises(CompatError, match="'top' already names something"):
        MoveUnder("top").apply(run)


def test_moving_onto_a_tensor_is_an_error():
    run = saved_run({"top.a": (1,), "a": (1,)})
    with pytest.raises(
        CompatError, match=r"Two tensors would be named 'top\.a"
    ):
        MoveUnder("top").apply(run)


def test_a_parent_has_no_wildcard():
    with pytest.raises(ValueError, match="wildcard is not allowed"):
        MoveUnder("top.*")


def test_dropping_takes_the_moments_along():
    run = saved_run(SHAPES)
    run.optimizers[0].reset["processor.module_0.mlp.weight.exp_avg_sq"] = "why"
    new = Drop("processor").apply(run)
    assert list(new.state_dict) == list(SHAPES)[:3]
    assert new.optimizers[0].names == list(SHAPES)[:3]
    assert list(new.optimizers[0].moments) == list(SHAPES)[:3]
    assert new.optimizers[0].reset == {}


def test_dropping_nothing_is_an_error():
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        Drop("grid_mlp").apply(saved_run(SHAPES))
