"""Checks of a registry like that of neural-lam #701."""

from types import SimpleNamespace

import pytest
import torch

from pytest_nlam_compat.migrations import Drop, Migration, Rename, as_callables
from pytest_nlam_compat.migrations.upstream import (
    check_numbers,
    check_on_file,
)


def step(number, apply=dict, description="why"):
    return SimpleNamespace(
        target_version=number,
        description=description,
        apply=apply,
        hard_break=apply is None,
    )


def rename(old, new):
    """Rename by the beginning of a name, in place."""

    def apply(state_dict):
        for name in [name for name in state_dict if name.startswith(old)]:
            state_dict[new + name[len(old) :]] = state_dict.pop(name)
        return state_dict

    return apply


def told(findings):
    return [str(finding) for finding in findings]


@pytest.fixture
def weights():
    return {"a.w": torch.zeros(1), "a.b": torch.ones(1), "c.w": torch.zeros(2)}


def test_numbers_in_order():
    assert check_numbers([step(1), step(2), step(5)], 5) == []


def test_two_steps_with_one_number_are_told():
    steps = [step(1, description="one"), step(1, description="two")]
    assert told(check_numbers(steps, 1)) == [
        "1 (one): Another step has the same number.",
        "1 (two): Another step has the same number.",
    ]


def test_a_step_in_the_wrong_place_is_told():
    assert told(check_numbers([step(2), step(1)], 2)) == [
        "1 (why): It stands after number 2."
    ]


def test_a_step_above_the_stamp_of_new_files_is_told():
    assert told(check_numbers([step(1), step(2)], 1)) == [
        "2 (why): New files have the number 1 only."
    ]


def test_each_step_sees_what_those_before_it_left(weights):
    steps = [step(2, rename("b.", "d.")), step(1, rename("a.", "b."))]
    assert check_on_file(steps, 0, weights) == []
    steps.append(step(3, lambda state_dict: {"e": state_dict["d.w"]}))
    assert check_on_file(steps, 0, weights) == []
    assert list(weights) == ["a.w", "a.b", "c.w"]


def test_steps_that_a_file_has_been_through_are_left_out(weights):
    steps = [step(1, lambda state_dict: state_dict["gone"])]
    assert check_on_file(steps, 1, weights) == []
    assert told(check_on_file(steps, 0, weights)) == [
        "1 (why): It raises KeyError: 'gone'"
    ]


def test_nothing_after_a_failure_or_a_hard_break_is_tried(weights):
    broken = step(2, lambda state_dict: state_dict["gone"])
    assert len(check_on_file([broken, step(3, broken.apply)], 0, weights)) == 1
    assert check_on_file([step(1, None), broken], 0, weights) == []


def test_a_rename_onto_a_tensor_is_told(weights):
    steps = [step(1, rename("a.", "c."))]
    assert told(check_on_file(steps, 0, weights)) == [
        "1 (why): It overwrites 'c.w'."
    ]


def test_half_a_segment_is_told(weights):
    weights["top.grid_mlp.w"] = torch.zeros(1)
    weights["top.b"] = torch.zeros(1)
    steps = [step(1, rename("top.grid_mlp", "mlp"))]
    assert told(check_on_file(steps, 0, weights)) == [
        "1 (why): It renames 'top.grid_mlp_extra' along with 'top.grid_mlp': "
        "match whole segments."
    ]


def test_our_steps_in_its_form_have_no_findings(weights):
    ours = [
        Migration("a", "0.8.0", "Why.", (Rename("a", "d"), Drop("c"))),
        Migration("b", "0.9.0", "Why.", (Rename("d", "e"),)),
    ]
    steps = [
        step(number, upstream.apply)
        for number, upstream in enumerate(as_callables(ours), 1)
    ]
    assert check_on_file(steps, 0, weights) == []
