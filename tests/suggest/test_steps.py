"""Which operations belong together."""

from pytest_nlam_compat.diagnosis.name_patterns import exchange
from pytest_nlam_compat.migrations import Rename, Reorder
from pytest_nlam_compat.suggest.steps import independent_units


def test_what_names_the_same_modules_stays_together():
    first, *rest = exchange("a.x", "b.x")
    other = Rename("c.x", "d.x")
    orders = (Reorder("a.x", before="b.x"), Reorder("c.x", before="d.x"))
    found = independent_units((orders[0], first, other, *rest, orders[1]))
    assert found == [(other,), (first, *rest), orders]


def test_an_operation_joins_what_was_apart():
    one, two = Rename("a.x", "b.x"), Rename("c.x", "d.x")
    both = Rename("b.x", "c.x")
    assert independent_units((one, two, both)) == [(one, two, both)]
