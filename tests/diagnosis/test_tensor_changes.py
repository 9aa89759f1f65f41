"""How the columns of an input have changed."""

import pytest
import torch

from pytest_nlam_compat.diagnosis.tensor_changes import (
    explain_columns,
    likely_numbers,
    rounded_columns,
)
from pytest_nlam_compat.under_test.tracing import column_moments, fingerprint


def recorded(columns=6, rows=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        rows, columns, generator=generator, dtype=torch.float64
    ) + torch.arange(columns)


def explained(then, now):
    return explain_columns(column_moments(then), fingerprint(then), now)


def test_an_order():
    then = recorded()
    order = [3, 4, 5, 0, 1, 2]
    change = explained(then, then[:, order])
    assert change.kind == "reordered"
    assert change.order == tuple(order)
    assert change.confirmed
    assert change.described() == (
        "columns 3, 4, 5, 0, 1, 2 instead of 0, 1, 2, 3, 4, 5"
    )


def test_signs_and_factors():
    then = recorded()
    factors = torch.tensor([1, -1, 1, 0.5, 1, -1.0]).double()
    change = explained(then, then * factors)
    assert change.kind == "units"
    assert change.scale == tuple(factors.tolist())
    assert change.confirmed
    assert change.described() == (
        "columns 1, 5 changed sign; columns 3 times 0.5"
    )


def test_a_sign_that_moments_do_not_show():
    half = recorded(3)
    then = torch.cat((half, -half))
    change = explained(then, then * torch.tensor([1.0, -1.0, 1.0]).double())
    assert change.kind == "units"
    assert change.scale == (1.0, -1.0, 1.0)
    assert change.confirmed


def test_blocks_with_equal_moments():
    nodes = recorded(2)
    # Sender and receiver: the same nodes in another order.
    then = torch.cat((recorded(2, seed=1), nodes.flip(0), nodes), dim=1)
    change = explained(then, then[:, [0, 1, 4, 5, 2, 3]])
    assert change.kind == "reordered"
    assert change.order == (0, 1, 4, 5, 2, 3)
    assert change.confirmed


def test_an_offset():
    then = recorded()
    change = explained(then, then * 2 + 1)
    assert change.kind == "units"
    assert change.scale == pytest.approx([2.0] * 6)
    assert change.shift == pytest.approx([1.0] * 6)
    assert change.confirmed


def test_a_new_column():
    then = recorded()
    ones = torch.ones(50, 1).double()
    change = explained(then, torch.cat((then[:, :4], ones, then[:, 4:]), dim=1))
    assert change.kind == "added"
    assert change.order == (0, 1, 2, 3, -1, 4, 5)
    assert change.described() == "new columns 4"


def test_a_column_that_is_gone_is_not_explained():
    then = recorded()
    change = explained(then, then[:, [0, 1, 3, 4, 5]])
    assert change.kind == "other"
    assert not change.confirmed


@pytest.mark.parametrize(
    ("found", "numbers"),
    [
        ([2 + 3e-14, 2 - 1e-14, 1.0], [2.0, 2.0, 1.0]),
        ([-0.25 + 1e-13], [-0.25]),
        # A length of the dataset: rounded, it would give other outputs.
        ([0.15000000357627874, 0.1500000035762788], [0.15000000357627877] * 2),
    ],
)
def test_a_number_is_short_only_where_it_can_be(found, numbers):
    assert likely_numbers(found) == pytest.approx(numbers, rel=1e-15)
    assert len({*likely_numbers(found)}) == len({*numbers})


def test_other_rows_are_not_confirmed_as_other_units():
    then = recorded()
    # Any two columns have a scale and an offset between their moments.
    change = explained(then, recorded(seed=7))
    assert not change.confirmed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_columns(dtype):
    then = recorded()
    now = then.clone()
    now[:, 2:] = now[:, 2:].to(dtype).double()
    name = str(dtype).removeprefix("torch.")
    assert rounded_columns(column_moments(then), now) == name


def test_columns_that_are_not_rounded():
    then = recorded()
    assert rounded_columns(column_moments(then), then * 1.001) == ""


def standardised(columns=4, rows=50):
    then = recorded(columns, rows)
    then = then - then.mean(dim=0)
    then = then / then.square().mean(dim=0).sqrt()
    return torch.cat((recorded(2, rows, seed=3) + 7, then), dim=1)


def test_orders_that_a_fingerprint_does_not_tell_apart():
    # Its five entries are of columns 0, 3, 4 and 7.
    then = torch.cat((standardised(), recorded(2, seed=5) - 7), dim=1)
    change = explained(then, then[:, [0, 1, 5, 4, 3, 2, 6, 7]])
    assert change.confirmed
    # Which of them it is only the golden can say.
    assert {change.order, *change.others} == {
        (0, 1, 5, 4, 3, 2, 6, 7),
        (0, 1, 2, 4, 3, 5, 6, 7),
    }
    assert change.described() == "columns in another order, one of 2 that fit"


def test_an_offset_that_is_no_short_number_is_confirmed_exactly():
    then = standardised()
    # Nine digits of it are off by 5e-11, more than a trace allows.
    now = then * 0.56142407405 + 1 / 3
    change = explained(then, now)
    assert change.kind == "units"
    assert change.confirmed
