import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from saved_runs import KINDS, moment, same, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    MoveInputColumns,
    PermuteInputColumns,
    RepeatInputColumn,
)

W = "mlp.0.weight"
WIDTH = 6
SHAPES = {W: (2, WIDTH), "mlp.0.bias": (2,), "out.weight": (1, WIDTH)}


def by_number(operation):
    """Tell which old column stands where, -1 for a column of zeros."""
    numbered = operation({W: torch.arange(1, WIDTH + 1)[None].double()})[W]
    return [int(number) - 1 for number in numbered[0]]


def columns_of_moments(operation, order):
    run = saved_run(SHAPES)
    new = operation.apply(run)
    return all(
        torch.equal(moment(new, W, kind), moment(run, W, kind)[:, order])
        for kind in KINDS
    )


def test_columns_are_put_in_order_with_their_moments():
    order = (5, 0, 4, 1, 3, 2)
    operation = PermuteInputColumns(W, order)
    assert by_number(operation) == list(order)
    assert columns_of_moments(operation, list(order))


def test_a_block_is_put_in_order_and_the_rest_stays():
    assert by_number(PermuteInputColumns(W, (2, 0, 1), start=1)) == [
        *[0, 3, 1, 2],
        *[4, 5],
    ]
    assert by_number(PermuteInputColumns(W, (1, 0), start=-2)) == [
        *[0, 1, 2, 3],
        *[5, 4],
    ]


@given(st.permutations(range(WIDTH)))
def test_a_permutation_and_its_inverse_are_nothing(order):
    run = saved_run(SHAPES)
    operation = PermuteInputColumns(W, tuple(order))
    assert same(operation.inverse().apply(operation.apply(run)), run)


@given(st.permutations(range(4)), st.sampled_from([0, 1, 2, -4, -5]))
def test_so_are_those_of_a_block(order, start):
    run = saved_run(SHAPES)
    operation = PermuteInputColumns(W, tuple(order), start=start)
    assert same(operation.inverse().apply(operation.apply(run)), run)


@pytest.mark.parametrize("order", [(0, 0, 1), (1, 2, 3)])
def test_an_order_that_leaves_a_column_behind_is_refused(order):
    with pytest.raises(ValueError, match="Not an order of 3 columns"):
        PermuteInputColumns(W, order)


def test_an_order_for_another_width_is_an_error():
    with pytest.raises(CompatError) as caught:
        PermuteInputColumns(W, (1, 0)).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "'mlp.0.weight' has 6 columns, and the order 2.\n"
        "  operation: PermuteInputColumns('mlp.0.weight', (1, 0))\n"
        "Order all columns, or say from where with start."
    )


@pytest.mark.parametrize("start", [5, -7])
def test_a_block_that_sticks_out_is_an_error(start):
    with pytest.raises(CompatError) as caught:
        PermuteInputColumns(W, (1, 0), start=start).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "'mlp.0.weight' has 6 columns.\n"
        "  operation: PermuteInputColumns('mlp.0.weight', (1, 0), "
        f"start={start})\n"
        f"  columns: 2 from {start}\n"
        "Correct the columns, or the predicate of the migration."
    )


def test_a_bias_has_no_columns():
    with pytest.raises(CompatError) as caught:
        PermuteInputColumns("mlp.0.bias", (1, 0)).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "'mlp.0.bias' has no input columns: it isn't a matrix.\n"
        "  operation: PermuteInputColumns('mlp.0.bias', (1, 0))\n"
        "  shape: (2,)\n"
        "Name the weight of a Linear."
    )


def test_a_moved_column_stands_at_its_target():
    assert by_number(MoveInputColumns({W: {4: 1}})) == [0, 4, 1, 2, 3, 5]
    assert by_number(MoveInputColumns({W: {1: 4}})) == [0, 2, 3, 4, 1, 5]


def test_moves_of_one_parameter_come_one_after_another():
    # The second finds the columns as the first has left them.
    moves = MoveInputColumns({W: {5: 0, 1: 3}})
    assert by_number(moves) == [5, 1, 2, 0, 3, 4]
    assert columns_of_moments(moves, [5, 1, 2, 0, 3, 4])


def test_moves_read_as_upstream_wrote_them():
    moves = {"mlp.0.weight": {5: 1}, "out.weight": {0: 2}}
    run = saved_run(SHAPES)
    new = MoveInputColumns(moves).apply(run)
    for name, order in (
        ("mlp.0.weight", [0, 5, 1, 2, 3, 4]),
        ("out.weight", [1, 2, 0, 3, 4, 5]),
    ):
        assert torch.equal(new.state_dict[name], run.state_dict[name][:, order])


@given(
    st.lists(
        st.tuples(st.integers(0, WIDTH - 1), st.integers(0, WIDTH - 1)),
        max_size=6,
    )
)
def test_moves_lose_no_column_and_can_be_undone(pairs):
    run = saved_run(SHAPES)
    operation = MoveInputColumns({W: tuple(pairs)})
    assert sorted(by_number(operation)) == list(range(WIDTH))
    assert same(operation.inverse().apply(operation.apply(run)), run)


def test_a_move_of_a_column_that_is_not_there_is_an_error():
    with pytest.raises(CompatError) as caught:
        MoveInputColumns({W: {6: 0}}).apply(saved_run(SHAPES))
    assert str(caught.value) == (
        "'mlp.0.weight' has 6 columns.\n"
        "  operation: MoveInputColumns({'mlp.0.weight': {6: 0}})\n"
        "  move: 6 to 0\n"
        "Correct the columns."
    )


def test_a_parameter_that_two_patterns_move_is_an_error():
    with pytest.raises(CompatError) as caught:
        MoveInputColumns({W: {1: 0}, "*.*.weight": {2: 0}}).apply(
            saved_run(SHAPES)
        )
    assert str(caught.value) == (
        "Two patterns match 'mlp.0.weight'.\n"
        "  operation: MoveInputColumns({'mlp.0.weight': {1: 0}, "
        "'*.*.weight': {2: 0}})\n"
        "  patterns: mlp.0.weight, *.*.weight\n"
        "Write its moves under one of them."
    )


def test_moves_of_nothing_are_an_error():
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        MoveInputColumns({"mlp.1.weight": {1: 0}}).apply(saved_run(SHAPES))


def test_a_repeated_column_keeps_the_sum_and_the_moments():
    operation = RepeatInputColumn(W, -2, 3, keep=1)
    assert by_number(operation) == [0, 1, 2, 3, -1, 4, -1, 5]
    assert columns_of_moments(operation, [0, 1, 2, 3, 4, 4, 4, 5])


def test_a_repeated_column_that_is_not_there_is_an_error():
    with pytest.raises(CompatError, match=r"'mlp\.0\.weight' has 6 columns"):
        RepeatInputColumn(W, 6, 2).apply(saved_run(SHAPES))


def test_the_column_that_is_kept_is_one_of_them():
    with pytest.raises(ValueError, match="keep is one of 2 columns: 2"):
        RepeatInputColumn(W, 0, 2, keep=2)
