import pytest
from inverses import inverse
from saved_runs import namespace, saved_run

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    DropHyperParameter,
    MapHyperParameter,
    New,
    RenameHyperParameter,
    SetHyperParameter,
    UnwrapClass,
)

KIND = "neural_lam.config.DatastoreKindStr"


def kind(*args, **more):
    return InertObject(
        GlobalRef("neural_lam.config", "DatastoreKindStr"), args, **more
    )


def run_with(**hyper_parameters):
    return saved_run({"w": (1,)}, hyper_parameters=hyper_parameters)


def args_of(run):
    return run.hyper_parameters["args"].attributes


@pytest.fixture
def run():
    return run_with(args=namespace(loss="mse", lr=1e-3, steps=[1, 2]), lr=1e-3)


def test_a_wrapped_value_is_unwrapped_wherever_it_is():
    shared = kind("mdp")
    selection = InertObject(
        GlobalRef("neural_lam.config", "DatastoreSelection"),
        state={"kind": shared, "others": [shared, (shared,)]},
    )
    run = run_with(config=selection, plain={"kind": "mdp"})
    new = UnwrapClass(KIND).apply(run)
    assert new.hyper_parameters["config"].attributes == {
        "kind": "mdp",
        "others": ["mdp", ("mdp",)],
    }
    assert new.hyper_parameters["config"].cls is selection.cls
    assert selection.attributes["kind"] is shared
    # What did not change is shared with the old tree.
    assert new.hyper_parameters["plain"] is run.hyper_parameters["plain"]


def test_what_was_shared_stays_shared():
    inner = namespace(kind=kind("mdp"))
    new = UnwrapClass(KIND).apply(run_with(one=inner, two=inner))
    assert new.hyper_parameters["one"] is new.hyper_parameters["two"]
    assert new.hyper_parameters["one"] is not inner


def test_unwrapping_nothing_is_an_error(run):
    with pytest.raises(CompatError) as caught:
        UnwrapClass(KIND).apply(run)
    assert str(caught.value) == (
        "No hyper-parameter is a neural_lam.config.DatastoreKindStr.\n"
        f"  operation: UnwrapClass('{KIND}')\n"
        "Correct the name, or the predicate of its migration."
    )


@pytest.mark.parametrize(
    "wrapped", [kind(), kind("a", "b"), kind("a", state=1)]
)
def test_unwrapping_more_than_a_value_is_an_error(wrapped):
    with pytest.raises(CompatError, match="holds more than one value"):
        UnwrapClass(KIND).apply(run_with(config=wrapped))


def test_a_value_is_set_in_args(run):
    new = SetHyperParameter("args.output_std", False).apply(run)
    assert args_of(new)["output_std"] is False
    assert "output_std" not in args_of(run)
    assert new.hyper_parameters["lr"] == 1e-3


def test_an_object_is_set_as_a_stand_in():
    config = namespace(training=namespace(lr=1))
    new = SetHyperParameter(
        "config.training.output_clamping",
        New(
            "neural_lam.config.OutputClamping", {"lower": {}, "of": New("a.B")}
        ),
    ).apply(run_with(config=config))
    training = new.hyper_parameters["config"].attributes["training"]
    clamping = training.attributes["output_clamping"]
    assert clamping.cls == GlobalRef("neural_lam.config", "OutputClamping")
    assert clamping.attributes["lower"] == {}
    assert clamping.attributes["of"].cls == GlobalRef("a", "B")
    assert training.attributes["lr"] == 1


def test_what_is_set_is_dropped_first(run):
    with pytest.raises(CompatError) as caught:
        SetHyperParameter("args.loss", "wmse").apply(run)
    assert str(caught.value) == (
        "The hyper-parameter args.loss has a value already.\n"
        "  operation: SetHyperParameter('args.loss', 'wmse')\n"
        "  found: mse\n"
        "Drop it first, or correct the predicate of the migration."
    )
    dropped = DropHyperParameter("args.loss").apply(run)
    new = SetHyperParameter("args.loss", "wmse").apply(dropped)
    assert args_of(new)["loss"] == "wmse"


@pytest.mark.parametrize(
    "operation",
    [
        SetHyperParameter("config.training.loss", 1),
        DropHyperParameter("config.training.loss"),
        MapHyperParameter("config.training.loss", {}),
        RenameHyperParameter("config.training.loss", "other"),
    ],
)
def test_a_place_that_is_not_there_is_an_error(operation, run):
    with pytest.raises(CompatError) as caught:
        operation.apply(run)
    assert str(caught.value) == (
        "The saved run has no hyper-parameters 'config.training'.\n"
        f"  operation: {operation.python()}\n"
        "  found: args, lr\n"
        "Correct the path, or the predicate of its migration."
    )


@pytest.mark.parametrize(
    "operation",
    [
        DropHyperParameter("args.epochs"),
        MapHyperParameter("args.epochs", {1: 2}),
        RenameHyperParameter("args.epochs", "n"),
    ],
)
def test_a_hyper_parameter_that_is_not_there_is_an_error(operation, run):
    with pytest.raises(CompatError) as caught:
        operation.apply(run)
    assert str(caught.value) == (
        "The saved run has no hyper-parameter 'args.epochs'.\n"
        f"  operation: {operation.python()}\n"
        "  found: loss, lr, steps\n"
        "Correct the path, or the predicate of its migration."
    )


def test_a_rename_keeps_the_order_and_undoes_itself(run):
    operation = RenameHyperParameter("args.lr", "learning_rate")
    new = operation.apply(run)
    assert list(args_of(new)) == ["loss", "learning_rate", "steps"]
    back = inverse(operation).apply(new)
    assert args_of(back) == args_of(run)
    assert list(args_of(back)) == list(args_of(run))


def test_a_rename_onto_a_name_is_an_error(run):
    with pytest.raises(CompatError, match="The name 'lr' is taken"):
        RenameHyperParameter("args.loss", "lr").apply(run)


def test_a_hyper_parameter_is_dropped(run):
    new = DropHyperParameter("lr").apply(run)
    assert list(new.hyper_parameters) == ["args"]
    assert list(args_of(DropHyperParameter("args.lr").apply(run))) == [
        "loss",
        "steps",
    ]


def test_a_value_is_exchanged_by_a_table(run):
    operation = MapHyperParameter("args.loss", {"mse": "wmse"})
    assert args_of(operation.apply(run))["loss"] == "wmse"
    assert args_of(operation.apply(operation.apply(run)))["loss"] == "wmse"
    # What is in no table stays, a list among it.
    new = MapHyperParameter("args.steps", {1: 2}).apply(run)
    assert args_of(new)["steps"] == [1, 2]


@pytest.mark.parametrize(
    "operation",
    [
        SetHyperParameter("a", 1),
        DropHyperParameter("a"),
        UnwrapClass(KIND),
        MapHyperParameter("a", {}),
        RenameHyperParameter("a", "b"),
    ],
)
def test_a_plain_state_dict_has_no_hyper_parameters(operation, run):
    assert operation(run.state_dict) == run.state_dict
