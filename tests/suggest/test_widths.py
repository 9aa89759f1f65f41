"""Operations on columns for inputs of other widths."""

from types import SimpleNamespace

import torch

from pytest_nlam_compat.migrations import (
    AddInputColumns,
    ByWidth,
    FoldInputs,
    PermuteInputColumns,
    Rename,
    SavedRun,
)
from pytest_nlam_compat.suggest.widths import by_width, resized

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


def grid(states, forcing, static, width=None):
    """Return a reference of a dataset, with one weight over its grid input."""
    names = {
        "state": [f"s{i}" for i in range(states)],
        "static": [f"x{i}" for i in range(static)],
    }
    width = width or 2 * states + forcing + static
    return SimpleNamespace(
        migrated=SavedRun({W: torch.zeros(3, width)}, {}),
        reference=SimpleNamespace(
            dataset=SimpleNamespace(names=names),
            group=lambda _: {"forcing": torch.zeros(1, 1, 1, forcing)},
        ),
    )


def test_states_exchanged_for_another_number_of_variables():
    # s0 s1 t0 t1 f x to t0 t1 s0 s1 f x
    operations = (PermuteInputColumns(W, (2, 3, 0, 1), start=0),)
    assert resized(operations, grid(2, 1, 1), grid(3, 4, 2)) == (
        PermuteInputColumns(W, (3, 4, 5, 0, 1, 2), start=0),
    )


def test_a_block_that_is_reversed():
    operations = (PermuteInputColumns(W, (2, 1, 0), start=-3),)
    assert resized(operations, grid(2, 1, 3), grid(3, 4, 4)) == (
        PermuteInputColumns(W, (3, 2, 1, 0), start=-4),
    )


def test_thirds_as_a_graph_layer_concatenates_them():
    operations = permuted(0, 1, 4, 5, 2, 3)
    four, five = grid(9, 9, 9, width=6), grid(9, 9, 9, width=9)
    assert resized(operations, four, five) == (
        PermuteInputColumns(W, (3, 4, 5, 0, 1, 2), start=-6),
    )


def test_an_order_that_tears_blocks_apart_is_for_one_width():
    operations = permuted(0, 2, 1, 3, 4, 5)
    assert resized(operations, grid(2, 1, 1), grid(3, 4, 2)) is None
    assert resized(operations, grid(2, 1, 1), grid(2, 1, 1)) == (
        PermuteInputColumns(W, (1, 0), start=1),
    )


def test_operations_that_do_not_fit_are_not_resized():
    assert resized((Rename("b", "c"),), grid(2, 1, 1), grid(3, 1, 1)) is None
