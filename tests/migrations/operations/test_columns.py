import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inverses import inverse
from saved_runs import KINDS, moment, same, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    AddInputColumns,
    ByWidth,
    PermuteInputColumns,
    RepeatInputColumn,
    Scale,
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
    assert same(inverse(operation).apply(operation.apply(run)), run)


@given(st.permutations(range(4)), st.sampled_from([0, 1, 2, -4, -5]))
def test_so_are_those_of_a_block(order, start):
    run = saved_run(SHAPES)
    operation = PermuteInputColumns(W, tuple(order), start=start)
    assert same(inverse(operation).apply(operation.apply(run)), run)


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
        "Order all columns, or set start to the first of a block."
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
        "'mlp.0.bias' is not a matrix, so it has no input columns.\n"
        "  operation: PermuteInputColumns('mlp.0.bias', (1, 0))\n"
        "  shape: (2,)\n"
        "Name the weight of a Linear."
    )


def test_a_repeated_column_keeps_the_sum_and_the_moments():
    operation = RepeatInputColumn(W, -2, 3, keep=1)
    assert by_number(operation) == [0, 1, 2, 3, -1, 4, -1, 5]
    assert columns_of_moments(operation, [0, 1, 2, 3, 4, 4, 4, 5])


def test_a_repeated_column_that_is_not_there_is_an_error():
    with pytest.raises(CompatError, match=r"'mlp\.0\.weight' has 6 columns"):
        RepeatInputColumn(W, 6, 2).apply(saved_run(SHAPES))


def test_the_column_that_is_kept_is_one_of_them():
    with pytest.raises(ValueError, match="keep must be one of 2 columns: 2"):
        RepeatInputColumn(W, 0, 2, keep=2)


def test_new_inputs_count_for_nothing():
    run = saved_run({"a.weight": (2, 3), "a.bias": (2,)})
    after = AddInputColumns("a.weight", (1, 4)).apply(run)
    weight = after.state_dict["a.weight"]
    assert weight.shape == (2, 5)
    assert torch.equal(weight[:, [0, 2, 3]], run.state_dict["a.weight"])
    assert not weight[:, [1, 4]].any()
    for optimizer in after.optimizers:
        for kind in ("exp_avg", "exp_avg_sq"):
            moment = optimizer.moments["a.weight"][kind]
            assert moment.shape == (2, 5)
            assert not moment[:, [1, 4]].any()


def test_columns_that_cannot_be():
    run = saved_run({"a.weight": (2, 3)})
    with pytest.raises(CompatError, match=r"'a\.weight' would have 4 columns"):
        AddInputColumns("a.weight", (7,)).apply(run)
    for columns in ((2, 1), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="columns must ascend"):
            AddInputColumns("a.weight", columns)


BY_WIDTH = ByWidth(
    W,
    {
        2: (PermuteInputColumns(W, (1, 0)),),
        4: (PermuteInputColumns(W, (2, 3, 0, 1)), Scale(W, 2.0)),
    },
)


@pytest.mark.parametrize(
    ("width", "order", "factor"), [(2, [1, 0], 1), (4, [2, 3, 0, 1], 2)]
)
def test_those_of_the_width_are_applied(width, order, factor):
    run = saved_run({W: (3, width)})
    new = BY_WIDTH.apply(run)
    assert torch.equal(new.state_dict[W], factor * run.state_dict[W][:, order])
    for kind in KINDS:
        power = {"exp_avg": 1, "exp_avg_sq": 2}[kind]
        expected = moment(run, W, kind)[:, order] / factor**power
        assert torch.equal(moment(new, W, kind), expected)


def test_another_width_is_refused():
    with pytest.raises(CompatError) as raised:
        BY_WIDTH.apply(saved_run({W: (3, 6)}))
    error = raised.value
    assert error.what == (
        f"No operations are listed for the width of '{W}' in this run."
    )
    assert error.facts["expected"] == "2, 4 columns"
    assert error.facts["found"] == "6 columns"
    assert error.facts["operation"] == BY_WIDTH.python()


def test_weights_of_several_widths_are_refused():
    run = saved_run({"a.weight": (3, 2), "b.weight": (3, 4)})
    operation = ByWidth("*.weight", dict(BY_WIDTH.operations))
    with pytest.raises(CompatError, match="No operations are listed"):
        operation.apply(run)


def test_nothing_that_matches_is_an_error():
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        BY_WIDTH.apply(saved_run({"other.weight": (3, 2)}))


def test_it_prints_as_python():
    from pytest_nlam_compat import migrations

    again = eval(BY_WIDTH.python(), vars(migrations).copy())
    assert again == BY_WIDTH
