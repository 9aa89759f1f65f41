"""Which modules a model registers in another order than a run has them."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_nlam_compat.diagnosis.parameter_order import reorderings
from pytest_nlam_compat.migrations import Optimizer, Reorder, SavedRun


def tree(names):
    """Return a module that registers parameters in this order."""
    top = nn.Module()
    for name in names:
        *parents, last = name.split(".")
        module = top
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.register_parameter(last, nn.Parameter(torch.zeros(1)))
    return top


def run_of(names):
    return SavedRun(
        state_dict={name: torch.zeros(1) for name in names},
        hyper_parameters={},
        optimizers=[Optimizer(list(names), {}, [{}])],
    )


def found(names, wanted):
    """Find operations, and insist that they do it."""
    run, model = run_of(names), tree(wanted)
    operations = reorderings(run, model)
    for operation in operations:
        run = operation.apply(run)
    registered = [name for name, _ in model.named_parameters()]
    assert run.optimizers[0].names == registered
    return operations


def test_the_same_order_needs_nothing():
    assert found(["a.w", "a.b"], ["a.w", "a.b"]) == ()


def test_two_modules_exchanged_need_one_move():
    names = ["x.w", "a.w", "a.b", "b.w", "b.b", "c.w"]
    wanted = ["x.w", "b.w", "b.b", "a.w", "a.b", "c.w"]
    assert found(names, wanted) == (Reorder("b", before="a"),)


def test_the_same_within_many_modules_is_one_pattern():
    names = [f"gnn.{i}.mlp.{k}" for i in range(3) for k in "wb"]
    wanted = [f"gnn.{i}.mlp.{k}" for i in range(3) for k in "bw"]
    expected = (Reorder("gnn.*.mlp.b", before="gnn.*.mlp.w"),)
    assert found(names, wanted) == expected


def test_not_within_all_of_them_is_no_pattern():
    names = [f"gnn.{i}.{k}" for i in range(3) for k in "wb"]
    wanted = ["gnn.0.b", "gnn.0.w", "gnn.1.w", "gnn.1.b", "gnn.2.b", "gnn.2.w"]
    assert set(found(names, wanted)) == {
        Reorder("gnn.0.b", before="gnn.0.w"),
        Reorder("gnn.2.b", before="gnn.2.w"),
    }


def test_other_parameters_can_not_be_reordered():
    assert reorderings(run_of(["a.w"]), tree(["b.w"])) == ()


def test_without_an_optimizer_there_is_no_order():
    run = SavedRun(state_dict={}, hyper_parameters={})
    assert reorderings(run, tree(["b.w", "a.w"])) == ()


NAMES = ["a.w", "a.b", "g.0.m.w", "g.0.m.b", "g.1.m.w", "g.1.m.b", "h.w"]


@given(st.permutations(NAMES), st.permutations(NAMES))
def test_any_order_is_reached(names, wanted):
    found(names, wanted)
