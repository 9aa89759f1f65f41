import dataclasses

import pytest
import torch
from packaging.version import Version
from saved_runs import saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    HISTORY,
    Add,
    ByWidth,
    CallFunction,
    Drop,
    Migration,
    MoveUnder,
    Rename,
    apply,
    lint,
)

V6, V8 = Version("0.6.0"), Version("0.8.0")


def step(name, since, *operations, **more):
    return Migration(name, since, "Why.", operations, **more)


def told(findings):
    return [str(finding) for finding in findings]


def lose_the_order(run):
    optimizer = run.optimizers[0]
    return dataclasses.replace(
        run,
        optimizers=[
            dataclasses.replace(optimizer, names=["a.w", "gone"]),
        ],
    )


def test_the_history_is_in_order():
    assert told(lint.check_registry(HISTORY)) == []


def test_what_is_wrong_with_a_registry_is_told_in_one_go():
    steps = [
        step("b", "0.8.0", Drop("b")),
        step("a", "0.7.0", Drop("a"), oldest="0.7.0"),
        step("a", "0.9.0"),
    ]
    assert told(lint.check_registry(steps)) == [
        "a: The id is used 2 times.",
        "a: It stands after a migration of 0.8.0.",
        "a: No run is from 0.7.0 and older than 0.7.0.",
        "a: It has no operations.",
    ]


@pytest.fixture
def run():
    return saved_run({"a.w": (2, 1), "b.w": (1,)})


def test_a_registry_that_reaches_the_current_layout_has_no_findings(run):
    steps = [step("s", "0.8.0", Rename("a", "c"))]
    assert lint.check_on_run(steps, V6, V8, run) == []
    layout = {"c.w": (2, 1), "b.w": (1,)}
    assert lint.check_layout(steps, apply(run, steps), layout) == []


def test_what_a_layout_has_and_the_last_step_not_is_told(run):
    steps = [step("s", "0.8.0", Rename("a", "c"))]
    layout = {"c.w": (1, 2), "d.w": (1,)}
    assert told(lint.check_layout(steps, apply(run, steps), layout)) == [
        "s: 'c.w' is (2, 1), in the current layout (1, 2).",
        "s: It lacks 'd.w' of the current layout.",
        "s: It leaves 'b.w', which is not in the current layout.",
    ]


def test_a_step_that_matches_nothing_is_told(run):
    [finding] = lint.check_on_run([step("s", "0.8.0", Drop("d"))], V6, V8, run)
    assert finding.step == "s"
    assert finding.problem.startswith("Nothing in the saved run matches 'd'.")


def test_a_plan_that_can_not_be_made_is_told(run):
    needy = [step("s", "0.8.0", Drop("a"), needs=("graph",))]
    [finding] = lint.check_on_run(needy, V6, V8, run)
    assert finding.step == "plan"
    assert "missing: graph" in finding.problem


def test_an_optimizer_that_a_function_has_forgotten_is_told(run):
    steps = [step("s", "0.8.0", CallFunction(lose_the_order))]
    assert told(lint.check_on_run(steps, V6, V8, run)) == [
        "s: The optimizer has 'gone', which is no parameter.",
        "s: The optimizer lacks the parameter 'b.w'.",
    ]


def forget_the_moments(run):
    weights = {"a.w": torch.zeros(3), "b.w": run.state_dict["b.w"]}
    return dataclasses.replace(run, state_dict=weights)


def test_moments_of_another_shape_are_told(run):
    steps = [step("s", "0.8.0", CallFunction(forget_the_moments))]
    assert told(lint.check_on_run(steps, V6, V8, run)) == [
        "s: The exp_avg of 'a.w' has another shape.",
        "s: The exp_avg_sq of 'a.w' has another shape.",
    ]


def test_a_registry_without_steps_leaves_the_run(run):
    assert lint.check_on_run([], V6, V8, run) == []
    assert lint.check_layout([], run, {"a.w": (2, 1), "b.w": (1,)}) == []
    assert told(lint.check_layout([], run, {"a.w": (2, 1)})) == [
        "none: It leaves 'b.w', which is not in the current layout."
    ]


def weights(*names):
    return {name: torch.zeros(1) for name in names}


def by_prefix(old, new):
    def function(state_dict):
        for name in [name for name in state_dict if name.startswith(old)]:
            state_dict[new + name[len(old) :]] = state_dict.pop(name)
        return state_dict

    return function


def test_a_prefix_that_matches_half_a_segment_is_told():
    function = by_prefix("gnn.grid_mlp", "mlp")
    found = lint.check_function(
        "s", function, weights("gnn.grid_mlp.w", "gnn.b")
    )
    assert told(found) == [
        "s: It renames 'gnn.grid_mlp_extra' along with 'gnn.grid_mlp': match "
        "whole segments."
    ]
    with_dot = by_prefix("gnn.grid_mlp.", "mlp.")
    assert not lint.check_function("s", with_dot, weights("gnn.grid_mlp.w"))


def test_a_rename_onto_a_tensor_is_told():
    function = by_prefix("a.", "b.")
    assert told(lint.check_function("s", function, weights("a.w", "b.w"))) == [
        "s: It overwrites 'b.w'."
    ]


def test_a_tensor_that_is_dropped_is_no_finding():
    def drop(state_dict):
        return {k: v for k, v in state_dict.items() if k != "a.w"}

    assert lint.check_function("s", drop, weights("a.w", "b.w")) == []


def test_a_prefix_that_is_put_again_is_told():
    def prefix(state_dict):
        return {f"top.{name}": tensor for name, tensor in state_dict.items()}

    assert told(lint.check_function("s", prefix, weights("a.w"))) == [
        "s: Calling it twice differs from calling it once."
    ]


def exchange(state_dict):
    names = {"a.w": "b.w", "b.w": "a.w"}
    return {names[name]: tensor for name, tensor in state_dict.items()}


def test_an_exchange_is_told_unless_it_is_made_once():
    found = lint.check_function("s", exchange, weights("a.w", "b.w"))
    assert told(found) == ["s: Calling it twice differs from calling it once."]
    found = lint.check_function(
        "s", exchange, weights("a.w", "b.w"), planned=True
    )
    assert found == []


def test_a_step_may_exchange_names():
    run = saved_run({"a.w": (2, 3), "b.w": (2, 4)})
    swap = step(
        *("0.7.0-swap", "0.7.0"),
        *(Rename("a", "c"), Rename("b", "a"), Rename("c", "b")),
    )
    found = lint.check_on_run([swap], V6, Version("0.7.0"), run)
    assert found == []


@pytest.mark.parametrize(
    "operation",
    [Rename("a", "c"), Drop("a"), MoveUnder("top"), Add("n", (1,))],
)
def test_our_operations_have_no_findings(operation):
    found = lint.check_function("s", operation, weights("a.w", "a.b", "b.w"))
    assert found == []


def test_a_function_that_refuses_a_lonely_tensor_is_no_finding():
    def needs_both(state_dict):
        if len(state_dict) < 2:
            raise CompatError("No.", remedy="Stop.")
        return weights("c")

    assert lint.check_function("s", needs_both, weights("a.w", "b.w")) == []


def test_an_empty_state_dict_has_no_findings():
    assert lint.check_function("s", lambda weights: weights, {}) == []


def test_a_reason_that_nobody_has_written_is_told():
    steps = [Migration("s", "0.8.0", "TODO: what changed.", (Drop("a"),))]
    assert told(lint.check_registry(steps)) == ["s: It has no reason yet."]


def test_a_function_that_raises_is_told():
    def needs(state_dict):
        return {"b.w": state_dict["gone"]}

    assert told(lint.check_function("s", needs, weights("a.w"))) == [
        "s: It raises KeyError: 'gone'"
    ]


def test_a_function_that_raises_for_a_part_is_no_finding():
    def swap(state_dict):
        return {"a.w": state_dict["b.w"], "b.w": state_dict["a.w"]}

    assert lint.check_function("s", swap, weights("a.w", "b.w")) == []


def by_half_a_segment(run):
    names = {
        name: name.replace("a.grid_mlp", "mlp", 1) for name in run.state_dict
    }
    return dataclasses.replace(
        run,
        state_dict={names[name]: t for name, t in run.state_dict.items()},
        optimizers=[],
    )


def test_functions_of_steps_are_checked_too():
    run = saved_run({"a.grid_mlp.w": (1,), "a.b": (1,)})
    steps = [step("s", "0.8.0", CallFunction(by_half_a_segment))]
    assert told(lint.check_on_run(steps, V6, V8, run)) == [
        "s: It renames 'a.grid_mlp_extra' along with 'a.grid_mlp': match "
        "whole segments."
    ]


def test_widths_that_are_listed_are_noticed():
    plain = Migration("0.8.0-a", "0.8.0", "A.", (Rename("a", "b"),))
    listed = Migration("0.8.0-b", "0.8.0", "B.", (ByWidth("a", {}),))
    [notice] = lint.width_notices([plain, listed])
    assert notice.startswith("0.8.0-b lists widths")
