"""Hyper-parameters that a class takes, reads from args, or would lose."""

import copy
from argparse import Namespace

import pytest

from pytest_nlam_compat.adapters.model_arguments import raise_on_unused
from pytest_nlam_compat.errors import CompatError


class Takes:
    def __init__(self, forecaster, config, loss="wmse", warmup=0, args=None):
        self.kept = copy.deepcopy(args)


def takes_any(forecaster, **others):
    pass


def reads_one(args=None, learning_rate=0.0):
    return getattr(args, "lr", learning_rate)


def reads_all(args=None, learning_rate=0.0):
    return vars(args)


def call(cls, hyper_parameters):
    with raise_on_unused(cls, hyper_parameters) as taken:
        given = {"forecaster": None, "config": None} if cls is Takes else {}
        if cls is takes_any:
            given = {"forecaster": None}
        cls(**given, **taken)
    return taken


def test_all_that_is_taken_is_handed_on():
    assert call(Takes, {"loss": "mse", "args": None}) == {
        "loss": "mse",
        "args": None,
    }


def test_a_class_that_takes_any_takes_all():
    assert call(takes_any, {"lr": 0.1}) == {"lr": 0.1}


def test_what_is_not_taken_is_named_with_what_is():
    with pytest.raises(CompatError) as raised:
        call(Takes, {"lr": 0.1, "loss": "mse", "gif": True, "args": None})
    assert str(raised.value) == (
        "Takes of the current code does not use all hyper-parameters of the "
        "run: defaults would replace them.\n"
        "  neither accepted by the class nor read from args: lr, gif\n"
        "  the class accepts: loss, warmup\n"
        "Accept them as before, or add a migration for each: "
        "RenameHyperParameter or DropHyperParameter."
    )


@pytest.mark.parametrize("cls", [reads_one, reads_all])
def test_what_is_read_from_args_is_not_lost(cls):
    args = Namespace(lr=0.1)
    assert call(cls, {"lr": 0.1, "args": args}) == {"args": args}


def test_a_copy_of_args_is_no_use_of_them():
    with pytest.raises(CompatError):
        call(Takes, {"lr": 0.1, "args": Namespace(lr=0.1)})


def test_of_args_alone_loss_and_learning_rate_are_needed():
    args = Namespace(lr=0.1, loss="mse", n_workers=2)
    with pytest.raises(CompatError) as raised:
        call(reads_one, {"args": args})
    found = raised.value.facts[
        "neither accepted by the class nor read from args"
    ]
    assert found == "args.loss"


def test_args_are_left_as_they_were():
    args = Namespace(lr=0.1, steps=[1])
    with raise_on_unused(Takes, {"lr": 0.1, "args": args}):
        kept = Takes(None, None, args=args).kept
        assert args.lr == 0.1
    assert type(args) is type(kept) is Namespace
    assert args == kept == Namespace(lr=0.1, steps=[1])


def test_args_are_left_as_they_were_where_the_class_raises():
    args = Namespace(lr=0.1)
    with pytest.raises(ZeroDivisionError):
        with raise_on_unused(Takes, {"lr": 0.1, "args": args}):
            raise ZeroDivisionError
    assert type(args) is Namespace
