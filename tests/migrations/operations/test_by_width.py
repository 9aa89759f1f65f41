import pytest
import torch
from saved_runs import KINDS, moment, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import ByWidth, PermuteInputColumns, Scale

W = "mlp.0.weight"
OPERATION = ByWidth(
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
    new = OPERATION.apply(run)
    assert torch.equal(new.state_dict[W], factor * run.state_dict[W][:, order])
    for kind in KINDS:
        power = {"exp_avg": 1, "exp_avg_sq": 2}[kind]
        expected = moment(run, W, kind)[:, order] / factor**power
        assert torch.equal(moment(new, W, kind), expected)


def test_another_width_is_refused():
    with pytest.raises(CompatError) as raised:
        OPERATION.apply(saved_run({W: (3, 6)}))
    error = raised.value
    assert error.what == f"Nothing says what to do with '{W}' of this run."
    assert error.facts["expected"] == "2, 4 columns"
    assert error.facts["found"] == "6 columns"
    assert error.facts["operation"] == OPERATION.python()


def test_weights_of_several_widths_are_refused():
    run = saved_run({"a.weight": (3, 2), "b.weight": (3, 4)})
    operation = ByWidth("*.weight", dict(OPERATION.operations))
    with pytest.raises(CompatError, match="Nothing says"):
        operation.apply(run)


def test_nothing_that_matches_is_an_error():
    with pytest.raises(CompatError, match="Nothing in the saved run matches"):
        OPERATION.apply(saved_run({"other.weight": (3, 2)}))


def test_it_prints_as_python():
    from pytest_nlam_compat import migrations

    again = eval(OPERATION.python(), vars(migrations).copy())
    assert again == OPERATION
