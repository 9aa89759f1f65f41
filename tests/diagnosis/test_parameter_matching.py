"""What became of the tensors of a run that does not fit."""

from pytest_nlam_compat.diagnosis.parameter_matching import (
    facts_by_kind,
    match_parameters,
)
from pytest_nlam_compat.migrations import (
    Add,
    AddInputColumns,
    Concatenate,
    Drop,
    Rename,
    Split,
    Stack,
    Transpose,
)


def mlp(name, width=3, hidden=4):
    return {
        f"{name}.0.weight": (hidden, width),
        f"{name}.0.bias": (hidden,),
        f"{name}.2.weight": (hidden, hidden),
        f"{name}.2.bias": (hidden,),
    }


def first_choices(changes):
    return [o for change in changes for o in change.choices[0]]


def test_nothing_changed():
    assert match_parameters(mlp("a"), mlp("a")) == []


def test_a_module_renamed():
    changes = match_parameters(mlp("a") | mlp("b", 5), mlp("a") | mlp("c", 5))
    assert first_choices(changes) == [Rename("b", "c")]
    assert facts_by_kind(changes) == {"renamed": "b -> c (4 tensors)"}


def test_a_segment_renamed_in_many_places():
    before = mlp("gnn.module_0.edge_mlp") | mlp("gnn.module_1.edge_mlp")
    after = mlp("gnn.module_0.mlp") | mlp("gnn.module_1.mlp")
    assert first_choices(match_parameters(before, after)) == [
        Rename("gnn.module_*.edge_mlp", "gnn.module_*.mlp")
    ]


def test_a_pattern_covers_nothing_else():
    before = mlp("a.x") | mlp("b.x") | mlp("c.x")
    after = mlp("a.y") | mlp("b.y") | mlp("c.x")
    assert first_choices(match_parameters(before, after)) == [
        Rename("a.x", "a.y"),
        Rename("b.x", "b.y"),
    ]


def test_moved_under_a_parent():
    others = mlp("p.grid_embedder", 9)
    before = others | mlp("p.output_map")
    [change] = match_parameters(before, others | mlp("p.head.output_map"))
    assert change.kind == "renamed"
    assert change.choices[0] == (Rename("p.output_map", "p.head.output_map"),)


def test_names_decide_between_equal_shapes():
    before = mlp("g2m_embedder") | mlp("m2g_embedder")
    # In the other order: order alone would exchange them.
    after = mlp("m2g_edges") | mlp("g2m_edges")
    assert first_choices(match_parameters(before, after)) == [
        Rename("g2m_embedder", "g2m_edges"),
        Rename("m2g_embedder", "m2g_edges"),
    ]


def test_exchanged():
    before = mlp("a", 3) | mlp("b", 5)
    after = mlp("a", 5) | mlp("b", 3)
    [change] = match_parameters(before, after)
    assert (change.kind, change.text) == ("exchanged", "a and b")
    modules, tensors = change.choices
    # Their other tensors have equal shapes, and go along.
    assert modules == (
        Rename("a", "a_exchanged"),
        Rename("b", "a"),
        Rename("a_exchanged", "b"),
    )
    assert tensors == (
        Rename("a.0.weight", "a.0.weight_exchanged"),
        Rename("b.0.weight", "a.0.weight"),
        Rename("a.0.weight_exchanged", "b.0.weight"),
    )


def test_columns_that_only_look_like_an_exchange():
    before = mlp("a", 3) | mlp("b", 5) | {"b.3.weight": (4,)}
    after = mlp("a", 5) | mlp("b", 3) | {"b.3.weight": (4,)}
    # What else b holds has no place in a.
    kinds = {change.kind for change in match_parameters(before, after)}
    assert kinds == {"columns added", "columns removed"}


def test_split_and_fused():
    whole = {"m.weight": (4, 8)}
    parts = {"m.a.weight": (4, 5), "m.b.weight": (4, 3)}
    cut = {"m.a.weight": 5, "m.b.weight": 3}
    assert first_choices(match_parameters(whole, parts)) == [
        Split("m.weight", cut, dim=1)
    ]
    assert first_choices(match_parameters(parts, whole)) == [
        Concatenate(("m.a.weight", "m.b.weight"), "m.weight", dim=1)
    ]


def test_stacked_in_either_order():
    others = mlp("c", 5)
    stacked = {
        f"s.{name.removeprefix('a.')}": (2, *shape)
        for name, shape in mlp("a").items()
    }
    changes = match_parameters(mlp("a") | mlp("b") | others, others | stacked)
    assert [change.kind for change in changes] == ["stacked"] * 4
    assert changes[0].choices == (
        (Stack(("a.0.weight", "b.0.weight"), "s.0.weight"),),
        (Stack(("b.0.weight", "a.0.weight"), "s.0.weight"),),
    )
    # Each with what has its place in the other module.
    assert changes[3].choices[0] == (
        Stack(("a.2.bias", "b.2.bias"), "s.2.bias"),
    )


def test_names_that_are_known_are_not_guessed():
    before, after = mlp("g2m") | mlp("m2g"), mlp("dec") | mlp("enc")
    guessed = first_choices(match_parameters(before, after))
    assert guessed == [Rename("g2m", "dec"), Rename("m2g", "enc")]
    known = {
        name: name.replace(old, new)
        for old, new in (("g2m", "enc"), ("m2g", "dec"))
        for name in mlp(old)
    }
    changes = match_parameters(before, after, known)
    assert [change.text.partition(" (")[0] for change in changes] == [
        "g2m -> enc",
        "m2g -> dec",
    ]


def test_what_fits_was_not_cut():
    # The shapes of a bias and of others add up to that of another.
    before = {"old.weight": (8, 4), "x.weight": (4, 4), "y.weight": (4, 4)}
    after = {"new.weight": (8, 4), "x.weight": (4, 4), "z.weight": (4, 4)}
    kinds = [change.kind for change in match_parameters(before, after)]
    assert kinds == ["renamed", "renamed"]


def test_transposed():
    changes = match_parameters({"m.weight": (4, 3)}, {"m.weight": (3, 4)})
    assert first_choices(changes) == [Transpose("m.weight")]


def test_columns():
    more = match_parameters({"m.weight": (4, 3)}, {"m.weight": (4, 5)})
    assert first_choices(more) == [AddInputColumns("m.weight", (3, 4))]
    [fewer] = match_parameters({"m.weight": (4, 3)}, {"m.weight": (4, 2)})
    assert fewer.kind == "columns removed"
    assert fewer.choices == ()


def test_added_and_dropped():
    before = mlp("a") | {"old": (7, 7, 7)}
    after = {"gain": (1,)} | mlp("a")
    dropped, added = match_parameters(before, after)
    assert dropped.choices == ((Drop("old"),),)
    assert added.choices == (
        (Add("gain", (1,), fill=1.0, before="a.0.weight"),),
        (Add("gain", (1,), fill=0.0, before="a.0.weight"),),
    )
