"""Hyper-parameters as objects of the real neural-lam, and of nothing else."""

import dataclasses
import sys
from argparse import Namespace

import pytest

from pytest_nlam_compat.adapters.model_arguments import revive
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.usefixtures("current_adapter"),
]


def of_config(name, *args, **fields):
    return InertObject(GlobalRef("neural_lam.config", name), args, state=fields)


def revived(value):
    return revive({"value": value})["value"]


def error_of(value):
    with pytest.raises(CompatError) as raised:
        revived(value)
    return str(raised.value)


def datastore(**more):
    fields = {"kind": "mdp", "config_path": "a.yaml", **more}
    return of_config("DatastoreSelection", **fields)


def test_a_namespace():
    state = {"model": "graph_lam", "lr": 1e-3, "load": None, "steps": [1, 2]}
    found = revived(
        InertObject(GlobalRef("argparse", "Namespace"), state=state)
    )
    assert type(found) is Namespace
    assert vars(found) == state


def test_an_empty_namespace():
    assert (
        revived(InertObject(GlobalRef("argparse", "Namespace"))) == Namespace()
    )


def test_the_configuration():
    from neural_lam import config

    found = revived(
        of_config(
            "NeuralLAMConfig",
            datastore=datastore(),
            training=of_config(
                "TrainingConfig",
                state_feature_weighting=of_config(
                    "ManualStateFeatureWeighting", weights={"t2m": 2.0}
                ),
                output_clamping=of_config(
                    "OutputClamping", lower={}, upper={"t2m": 300.0}
                ),
            ),
        )
    )
    assert found == config.NeuralLAMConfig(
        datastore=config.DatastoreSelection("mdp", "a.yaml"),
        training=config.TrainingConfig(
            config.ManualStateFeatureWeighting({"t2m": 2.0}),
            config.OutputClamping({}, {"t2m": 300.0}),
        ),
    )


def test_fields_that_came_later_have_their_default():
    from neural_lam import config

    # As v0.3.0 pickled it, before there was any clamping.
    found = revived(of_config("TrainingConfig"))
    assert found == config.TrainingConfig()


def test_as_unpickled_without_the_constructor():
    # It refuses the kind, and needs the path.
    found = revived(of_config("DatastoreSelection", kind="of the past"))
    assert vars(found) == {"kind": "of the past"}


def test_where_the_data_are_may_have_another_name(monkeypatch):
    from neural_lam import config

    @dataclasses.dataclass
    class NeuralLAMConfig:
        datastores: dict[str, config.DatastoreSelection]
        training: config.TrainingConfig

    NeuralLAMConfig.__module__ = "neural_lam.config"
    monkeypatch.setattr(config, "NeuralLAMConfig", NeuralLAMConfig)
    training = of_config("TrainingConfig")
    one = of_config("NeuralLAMConfig", datastore=datastore(), training=training)
    assert revived(one).training == config.TrainingConfig()
    renamed = of_config(
        "NeuralLAMConfig", datastores=datastore(), training=training
    )
    assert "datastores is declared as dict" in error_of(renamed)


def test_positional_arguments():
    from neural_lam import config

    value = of_config("DatastoreSelection", "mdp", config_path="a.yaml")
    assert revived(value) == config.DatastoreSelection("mdp", "a.yaml")


def test_containers_keep_their_kind():
    value = {
        "list": [datastore(), 1],
        "tuple": (None, datastore()),
        "dict": {"of": {"dicts": datastore()}},
        "plain": "text",
    }
    found = revived(value)
    again = revived(datastore())
    assert found == {
        "list": [again, 1],
        "tuple": (None, again),
        "dict": {"of": {"dicts": again}},
        "plain": "text",
    }
    # What was migrated is left as it was.
    assert isinstance(value["list"][0], InertObject)


@pytest.mark.parametrize(
    "release_and_case",
    ["0.7.0-graph_lam-clamp", "0.7.0-graph_lam-weights", "0.7.0-hi_lam"],
)
def test_the_real_ones_are_what_pickle_would_have_made(
    reference_of, release_and_case, tmp_path
):
    import torch

    from pytest_nlam_compat.checkpoints.reader import read_checkpoint

    path = reference_of(release_and_case).write(tmp_path)
    with read_checkpoint(path) as checkpoint:
        inert = checkpoint.data["hyper_parameters"]
    # A frozen file of ours.
    real = torch.load(path, weights_only=False)["hyper_parameters"]
    assert revive(inert) == real


@pytest.fixture
def moved(monkeypatch):
    """Define things in another module, and re-export them."""
    import dataclasses
    import enum
    import types

    from neural_lam import config

    module = types.ModuleType("neural_lam.settings.training")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def add(name, made, exported=None):
        made.__module__ = module.__name__
        setattr(module, name, made)
        if exported:
            monkeypatch.setattr(config, exported, made, raising=False)
        return made

    @dataclasses.dataclass
    class Settings:
        kind: str

    class Kind(enum.Enum):
        MDP = "mdp"

    return add, Settings, Kind


def test_a_class_that_moved_and_is_re_exported(moved):
    add, settings, _ = moved
    add("Settings", settings, exported="DatastoreSelection")
    found = revived(of_config("DatastoreSelection", kind="mdp"))
    assert found == settings("mdp")


def test_a_class_in_a_nested_module(moved):
    add, settings, _ = moved
    add("Settings", settings)
    named = GlobalRef("neural_lam.settings.training", "Settings")
    assert revived(InertObject(named, state={"kind": "mdp"})).kind == "mdp"


def test_a_member_of_an_enumeration(moved):
    add, _, kind = moved
    add("Kind", kind, exported="DatastoreKind")
    named = GlobalRef("neural_lam.config", "DatastoreKind")
    assert revived(InertObject(named, ("mdp",), is_call=True)) is kind.MDP


def test_re_exported_from_elsewhere_it_is_none(monkeypatch):
    import dataclasses

    from neural_lam import config

    foreign = dataclasses.make_dataclass("Foreign", ["kind"])
    foreign.__module__ = "neural_lambda.config"
    monkeypatch.setattr(config, "DatastoreSelection", foreign)
    value = of_config("DatastoreSelection", kind="mdp")
    assert error_of(value) == lacking("neural_lam.config.DatastoreSelection")


def test_a_module_that_is_not_loaded_stays_so():
    name = "neural_lam.plot_graph"
    loaded = name in sys.modules
    assert error_of(InertObject(GlobalRef(name, "main"))) == lacking(
        f"{name}.main"
    )
    assert (name in sys.modules) is loaded


def lacking(name):
    return (
        "The hyper-parameters name a class that the current code lacks.\n"
        f"  class: {name}\n"
        "Add a migration that replaces it, as `UnwrapClass(...)` for "
        "neural-lam 0.5.0 does."
    )


def test_a_class_that_is_gone():
    value = of_config("DatastoreKindStr", "mdp")
    name = "neural_lam.config.DatastoreKindStr"
    assert error_of(value) == lacking(name)
    assert error_of([{"a": value}]) == lacking(name)


@pytest.mark.parametrize(
    "name",
    [
        "neural_lam.models.ForecasterModule",
        "neural_lam.config.NeuralLAMConfig.from_yaml_file",
        # In the module, and yet no class of it.
        "neural_lam.config.load_config_and_datastore",
        "neural_lam.config.init_datastore",
        "neural_lam.config.MDPDatastore",
        "neural_lam.config.Path",
        "neural_lam.config.dataclasses",
        "neural_lam.config.DATASTORES",
        "builtins.eval",
        "os.system",
    ],
)
def test_nothing_else_is_made(name):
    module, _, attribute = name.rpartition(".")
    if "NeuralLAMConfig" in module:
        module, attribute = "neural_lam.config", f"NeuralLAMConfig.{attribute}"
    value = InertObject(GlobalRef(module, attribute), ("echo",), is_call=True)
    assert error_of(value) == lacking(name)


def test_what_is_named_is_never_imported(tmp_path, monkeypatch):
    witness = tmp_path / "imported"
    (tmp_path / "an_evil_module.py").write_text(
        f"open({str(witness)!r}, 'w').close()\nclass Namespace:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    value = InertObject(
        GlobalRef("an_evil_module", "Namespace"), state={"a": 1}
    )
    assert error_of(value) == lacking("an_evil_module.Namespace")
    assert not witness.exists()
    assert "an_evil_module" not in sys.modules


def test_an_object_made_by_another_object():
    inner = InertObject(GlobalRef("functools", "partial"))
    assert "lacks.\n  class: InertObject(" in error_of(InertObject(inner))


@pytest.mark.parametrize(
    ("value", "fields", "cause"),
    [
        (
            datastore(zarr="b"),
            "config_path, kind, zarr",
            "DatastoreSelection.__init__() got an unexpected keyword argument "
            "'zarr'",
        ),
        (
            of_config("DatastoreSelection", kind={}, config_path="a.yaml"),
            "config_path, kind",
            "kind is declared as <class 'str'>, and is a dict",
        ),
    ],
)
def test_fields_that_do_not_fit(value, fields, cause):
    assert error_of(value) == (
        "neural_lam.config.DatastoreSelection of the current code does not "
        "accept the fields of the checkpoint.\n"
        f"  fields: {fields}\n"
        f"  cause: TypeError: {cause}\n"
        "Add a migration that renames, drops or sets the field."
    )
