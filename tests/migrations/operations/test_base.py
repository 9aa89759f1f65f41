import dataclasses

import pytest
from saved_runs import saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import CallFunction, HardBreak


def drop_everything(run):
    return dataclasses.replace(run, state_dict={})


def test_a_hard_break_says_why_and_what_to_do():
    with pytest.raises(CompatError) as caught:
        HardBreak("It is gone.", "Train again.").apply(saved_run({"w": (1,)}))
    assert str(caught.value) == (
        "It is gone.\n"
        "  operation: HardBreak('It is gone.', 'Train again.')\n"
        "Train again."
    )


def test_a_function_gets_the_run_and_prints_by_its_name():
    operation = CallFunction(drop_everything)
    run = saved_run({"w": (1,)})
    assert operation.apply(run).state_dict == {}
    assert operation(run.state_dict) == {}
    assert operation.python() == "CallFunction(drop_everything)"


def test_a_function_without_a_name_is_refused():
    with pytest.raises(ValueError, match="Not at the top level of a module"):
        CallFunction(lambda run: run)


def fail(run):
    return run.state_dict["gone"]


def forget(run):
    run.state_dict.clear()


def test_a_function_that_fails_is_an_error_with_its_cause():
    with pytest.raises(CompatError) as caught:
        CallFunction(fail).apply(saved_run({"a.w": (1,)}))
    assert str(caught.value) == (
        "The function of a migration failed.\n"
        "  operation: CallFunction(fail)\n"
        "  cause: KeyError: 'gone'\n"
        "Fix the error above."
    )


def test_a_function_that_gives_nothing_is_an_error():
    with pytest.raises(CompatError) as caught:
        CallFunction(forget).apply(saved_run({"a.w": (1,)}))
    assert str(caught.value) == (
        "The function of a migration returned no saved run.\n"
        "  operation: CallFunction(forget)\n"
        "  found: NoneType\n"
        "Return a new one: dataclasses.replace(run, ...)."
    )
