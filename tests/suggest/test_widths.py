"""Operations on columns for inputs of other widths."""

from types import SimpleNamespace

import torch

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.migrations import (
    AddInputColumns,
    ByWidth,
    FoldInputs,
    PermuteInputColumns,
    Rename,
    SavedRun,
    Split,
)
from pytest_nlam_compat.suggest.widths import by_width, is_width_specific

W = "a.0.weight"


def subject(width, **more):
    weights = {W: torch.zeros(3, width), **more}
    return SimpleNamespace(migrated=SimpleNamespace(state_dict=weights))


def permuted(*order, name=W):
    return (PermuteInputColumns(name, order),)


def test_each_width_has_its_operations():
    two, three = subject(2), subject(3)
    again = subject(2)
    joined = by_width(
        [(permuted(1, 0), [two, again]), (permuted(2, 0, 1), [three])]
    )
    operation = ByWidth(W, {2: permuted(1, 0), 3: permuted(2, 0, 1)})
    assert joined == [((operation,), [two, again, three])]


def test_one_alone_is_left_as_it_is():
    using = [(permuted(1, 0), [subject(2)])]
    assert by_width(using) == using


def test_two_ways_for_one_width_are_not_joined():
    using = [
        (permuted(1, 0, 2), [subject(3)]),
        (permuted(2, 1, 0), [subject(3)]),
    ]
    assert by_width(using) == using


def test_other_weights_and_kinds_are_not_joined():
    named = {"b.0.weight": torch.zeros(3, 4)}
    using = [
        (permuted(1, 0), [subject(2)]),
        (permuted(1, 0, 2, 3, name="b.0.weight"), [subject(2, **named)]),
        ((AddInputColumns(W, (3,)),), [subject(3)]),
        ((Rename("a", "b"),), [subject(2)]),
        ((Rename("a", "c"),), [subject(3)]),
    ]
    assert by_width(using) == using


def test_a_layer_goes_by_its_weight():
    one = (FoldInputs("a.0", (2.0, 1.0), (0.0, 1.0)),)
    other = (FoldInputs("a.0", (2.0,), (1.0,)),)
    two, three = subject(2), subject(3)
    joined = by_width([(one, [two]), (other, [three])])
    assert joined == [((ByWidth(W, {2: one, 3: other}),), [two, three])]


def test_what_has_no_columns_is_not_joined():
    odd = SimpleNamespace(
        migrated=SimpleNamespace(state_dict={W: torch.zeros(3)})
    )
    using = [(permuted(1, 0), [odd]), (permuted(0, 1), [subject(2)])]
    assert by_width(using) == using


def test_numbers_of_columns_that_other_models_lack():
    run = SavedRun(
        {
            "p.edge_mlp.0.weight": torch.zeros(2, 6),
            "p.g2m_embedder.0.weight": torch.zeros(2, 3),
        },
        {"args": InertObject(None, state={"hidden_dim": 2})},
    )
    order = (2, 1, 0)
    edges = PermuteInputColumns("p.g2m_embedder.0.weight", order)
    assert not is_width_specific(edges, run)
    message = PermuteInputColumns("p.edge_mlp.0.weight", order, start=0)
    assert is_width_specific(message, run)
    assert is_width_specific(ByWidth("a.b", {}), run)
    assert is_width_specific(Split("a.b", {"c": 1, "d": 2}), run)
    assert not is_width_specific(Split("a.b", ("c", "d")), run)
    assert not is_width_specific(Rename("p.edge_mlp", "p.b"), run)
