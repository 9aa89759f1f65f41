"""The declared weights of each model against those that there are."""

import random

import pytest
import torch
from listed_releases import NEWEST, RELEASES
from packaging.version import Version
from saved_runs import namespace

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import layout
from pytest_nlam_compat.migrations.layout import check_weights

ARGUMENTS = {
    **{"model": "graph_lam", "graph": "1level", "mesh_aggr": "sum"},
    **{"hidden_dim": 4, "hidden_layers": 1, "processor_layers": 2},
    **{"num_past_forcing_steps": 1, "num_future_forcing_steps": 1},
    "output_std": False,
}


@pytest.mark.parametrize("release", RELEASES)
def test_all_references_have_the_declared_weights_in_order(
    release, recorded, reference_of, tmp_path
):
    for case in recorded(release).cases:
        file = reference_of(f"{release}-{case}").write(tmp_path / case)
        with read_checkpoint(file) as checkpoint:
            weights = checkpoint.data["state_dict"]
            parameters = checkpoint.data["hyper_parameters"]
            assert check_weights(weights, parameters, release) == list(weights)
            # As in a file without arguments.
            assert check_weights(weights, {}, release) == list(weights)
            others = [r for r in RELEASES if _family(r) != _family(release)]
            for other in others:
                with pytest.raises(CompatError, match="The weights are not"):
                    check_weights(weights, parameters, other)


def _family(release):
    firsts = map(Version, ("0.4.0", "0.7.0"))
    return sum(Version(release) >= first for first in firsts)


@pytest.fixture(scope="module")
def graphs(reference_of, tmp_path_factory):
    """Datasets with the graph of a reference, by its number of levels."""
    from pytest_nlam_compat.adapters.datastore import StoredDatastore

    found = {}
    for levels, case in enumerate(("graph_lam", "hi_lam", "hi_lam-3level"), 1):
        reference = reference_of(f"0.7.0-{case}")
        root = tmp_path_factory.mktemp(case)
        reference.write(root)
        datastore = StoredDatastore(reference.dataset, root, "f4")
        found[levels] = datastore, reference.graph_name
    return found


def _draw(choose, levels):
    flat = levels == 1
    models = ["graph_lam"] if flat else ["hi_lam", "hi_lam_parallel"]
    return {
        "model": choose.choice(models),
        "hidden_dim": choose.choice([1, 2, 3, 5, 8, 16]),
        "hidden_layers": choose.randrange(4),
        "processor_layers": choose.randrange(1, 5),
        "mesh_aggr": choose.choice(["sum", "mean"]),
        "output_std": choose.random() < 0.5,
        "num_past_forcing_steps": choose.randrange(3),
        "num_future_forcing_steps": choose.randrange(3),
        "g2m_gnn_type": choose.choice(["InteractionNet", "PropagationNet"]),
    }


@pytest.mark.neural_lam
@pytest.mark.slow
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_new_models_have_the_declared_weights_in_order(seed, levels, graphs):
    """Built by neural-lam, of other widths, layers and levels."""
    from argparse import Namespace

    from neural_lam import config
    from neural_lam.models import MODELS
    from neural_lam.train_model import build_predictor

    choose = random.Random(f"{seed} {levels}")
    datastore, graph = graphs[levels]
    arguments = {"graph": graph, **_draw(choose, levels)}
    limits = {"t2m": 1.0, "r2m": 2.0, "q2m": 3.0}
    chosen = [choose.sample(list(limits), choose.randrange(4)) for _ in "ab"]
    lower, upper = ({name: limits[name] for name in each} for each in chosen)
    upper = {name: limit + 1 for name, limit in upper.items()}
    settings = config.NeuralLAMConfig(
        datastore=config.DatastoreSelection(kind="mdp", config_path=""),
        training=config.TrainingConfig(
            output_clamping=config.OutputClamping(lower=lower, upper=upper)
        ),
    )
    cls = MODELS[arguments["model"]]
    predictor = build_predictor(
        cls, Namespace(**arguments), settings, datastore
    )
    weights = {
        f"forecaster.predictor.{name}": tensor
        for name, tensor in predictor.state_dict().items()
    }
    parameters = {"args": namespace(**arguments)}
    assert check_weights(weights, parameters, NEWEST) == list(weights)
    for name in choose.sample(list(weights), 5):
        less = {n: t for n, t in weights.items() if n != name}
        with pytest.raises(CompatError, match=name):
            check_weights(less, parameters, "0.7.0")


@pytest.fixture
def weights(reference_of, tmp_path):
    file = reference_of("0.7.0-graph_lam").write(tmp_path)
    with read_checkpoint(file) as checkpoint:
        yield {
            n: ref.load() for n, ref in checkpoint.data["state_dict"].items()
        }


def refusal(weights, release="0.7.0", **arguments):
    parameters = {"args": namespace(**{**ARGUMENTS, **arguments})}
    with pytest.raises(CompatError) as caught:
        check_weights(weights, parameters, release)
    return caught.value


FIRST = "forecaster.predictor.grid_embedder.0.weight"


def test_what_is_missing_and_what_is_unexpected_is_named(weights):
    weights["misspelt"] = weights.pop(FIRST)
    error = refusal(weights)
    assert error.what == (
        "The weights are not those of a graph_lam of neural-lam 0.7.0 with "
        "these hyper-parameters."
    )
    assert error.facts == {"missing": FIRST, "unexpected": "misspelt"}


def test_a_release_with_other_names(weights, monkeypatch):
    """Of modules that sizes are told by, too; and one name is used again."""
    monkeypatch.setitem(
        layout.RENAMED,
        "0.8.0",
        {"g2m_embedder": "m2g_embedder", "m2g_embedder": "g2m_embedder"},
    )
    monkeypatch.setitem(
        layout.RENAMED,
        "0.9.0",
        {"processor.module_*": "layers.*", "g2m_embedder": "edges.m2g"},
    )
    parameters = {"args": namespace(**ARGUMENTS)}
    swapped, newest = [], []
    for name in weights:
        if "g2m_embedder" in name:
            new = name.replace("g2m_embedder", "m2g_embedder")
        else:
            new = name.replace("m2g_embedder", "g2m_embedder")
        swapped.append(new)
        new = new.replace("processor.module_", "layers.")
        newest.append(new.replace("g2m_embedder", "edges.m2g"))
    for release, names in (
        ("0.7.0", list(weights)),
        ("0.8.0", swapped),
        ("0.9.0", newest),
    ):
        new = dict(zip(names, weights.values(), strict=True))
        assert check_weights(new, parameters, release) == names
        assert check_weights(new, {}, release) == names
    error = refusal(weights, "0.9.0")
    assert "edges.m2g.0.weight" in error.facts["missing"]
    assert "predictor.g2m_embedder.0.weight" in error.facts["unexpected"]


def test_another_shape_is_named(weights):
    name = "forecaster.predictor.g2m_gnn.edge_mlp.0.weight"
    weights[name] = torch.zeros(4, 11)
    facts = refusal(weights).facts
    assert facts == {f"shape of {name}": "(4, 11), not (4, 12)"}


def test_integers_are_no_weights(weights):
    """Of quantised ones, neural-lam would cast the codes to numbers."""
    weights[FIRST] = weights[FIRST].to(torch.int8)
    assert refusal(weights).facts == {f"type of {FIRST}": "int8, not a float"}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("mesh_aggr", "max"),
        ("mesh_aggr", None),
        ("graph", 1),
        ("num_past_forcing_steps", "1"),
        ("g2m_gnn_type", "GATNet"),
        ("output_std", "yes"),
        ("loss", "huber"),
    ],
)
def test_arguments_that_build_no_model(argument, value, weights):
    assert refusal(weights, **{argument: value}).facts == {
        f"args.{argument}": repr(value)
    }


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_missing_argument_is_named(name, weights):
    arguments = {k: v for k, v in ARGUMENTS.items() if k != name}
    with pytest.raises(CompatError, match=f"args.{name}: missing"):
        check_weights(weights, {"args": namespace(**arguments)}, "0.7.0")


@pytest.mark.parametrize("argument", ["hidden_layers", "processor_layers"])
@pytest.mark.parametrize("value", [0, 3, 10**9, 10**30])
def test_other_numbers_of_layers(argument, value, weights):
    assert {"missing", "unexpected"} & set(
        refusal(weights, **{argument: value}).facts
    )


def test_another_width(weights):
    facts = refusal(weights, hidden_dim=64).facts
    assert all(name.startswith("shape of") for name in facts)


def test_an_odd_number_of_outputs_with_standard_deviations(weights):
    name = "forecaster.predictor.output_map.2"
    weights[f"{name}.weight"] = torch.zeros(5, 4)
    weights[f"{name}.bias"] = torch.zeros(5)
    assert refusal(weights, output_std=True).facts == {
        "inputs and outputs": "17, 5"
    }


def test_the_model_of_a_fork(weights):
    error = refusal(weights, model="graph_lam_attention")
    assert error.facts["args.model"] == "graph_lam_attention"
    assert "fork" in error.remedy


def test_arguments_that_are_no_namespace(weights):
    with pytest.raises(CompatError, match=r"argparse.Namespace"):
        check_weights(weights, {"args": dict(ARGUMENTS)}, "0.7.0")
