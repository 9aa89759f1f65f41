"""Arguments, configuration and graphs, by the code of neural-lam itself."""

import pytest
import torch

from pytest_nlam_compat.errors import CompatError

pytestmark = pytest.mark.neural_lam


def test_arguments_are_those_of_train_model(current_adapter):
    args = current_adapter.parse_arguments(
        ["--config_path", "a.yaml", "--model", "hi_lam", "--output_std"]
    )
    assert (args.config_path, args.model) == ("a.yaml", "hi_lam")
    assert args.output_std is True
    assert args.num_past_forcing_steps == 1
    # Worked on by ``main`` before it begins: text has become a list.
    assert args.g2m_gnn_type == "InteractionNet"


def test_the_recorded_ones_can_be_parsed_again(
    current_adapter, reference_of, tmp_path
):
    path = reference_of("0.7.0-graph_lam").write(tmp_path)
    recorded = torch.load(path, weights_only=False)["hyper_parameters"]["args"]
    again = current_adapter.parse_arguments(
        [
            *("--config_path", "config.yaml"),
            *("--graph", "1level"),
            *("--hidden_dim", "4"),
            *("--hidden_layers", "1"),
            *("--processor_layers", "2"),
            *("--model", "graph_lam"),
        ]
    )
    assert vars(again) == vars(recorded)


def test_the_parser_is_left_as_it_was(current_adapter):
    from argparse import ArgumentParser

    from neural_lam import train_model

    before = ArgumentParser.parse_args, train_model.load_config_and_datastore
    current_adapter.parse_arguments(["--config_path", "a.yaml"])
    after = ArgumentParser.parse_args, train_model.load_config_and_datastore
    assert before == after


def test_a_main_that_reads_its_arguments_otherwise(
    current_adapter, monkeypatch
):
    from neural_lam import train_model

    monkeypatch.setattr(train_model, "main", lambda argv: None)
    with pytest.raises(CompatError) as raised:
        current_adapter.parse_arguments([])
    assert str(raised.value) == (
        "neural_lam.train_model.main went on without loading its datastore.\n"
        "The current code reads its arguments in another way: implement the "
        "hook pytest_nlam_compat_adapter."
    )


def test_the_configuration_is_read_from_yaml(current_adapter, tmp_path):
    from neural_lam import config

    file = tmp_path / "config.yaml"
    file.write_text(
        "datastore:\n  kind: mdp\n  config_path: stored.yaml\n"
        "training:\n"
        "  state_feature_weighting:\n"
        "    __config_class__: ManualStateFeatureWeighting\n"
        "    weights: {t2m: 2.0}\n"
    )
    assert current_adapter.config(file) == config.NeuralLAMConfig(
        datastore=config.DatastoreSelection("mdp", "stored.yaml"),
        training=config.TrainingConfig(
            config.ManualStateFeatureWeighting({"t2m": 2.0})
        ),
    )


@pytest.mark.parametrize(
    ("case", "levels", "hierarchical"),
    [("graph_lam", 1, False), ("hi_lam", 2, True)],
)
def test_graphs_are_created_as_when_it_was_recorded(
    current_adapter, reference_of, tmp_path, case, levels, hierarchical
):
    from pytest_nlam_compat.adapters.datastore import StoredDatastore
    from pytest_nlam_compat.migrations.reading import graph_format
    from pytest_nlam_compat.references.reference import read_graph

    reference = reference_of(f"0.7.0-{case}")
    reference.write(tmp_path)
    datastore = StoredDatastore(reference.dataset, tmp_path, "f4")
    folder = tmp_path / "new"
    current_adapter.create_graph(
        datastore, folder, levels=levels, hierarchical=hierarchical
    )
    recorded = reference.graph_folder(tmp_path)
    assert graph_format(folder) == graph_format(recorded) == "0.1.0"
    found, expected = read_graph(folder), read_graph(recorded)
    assert found.keys() == expected.keys()
    for stem, tensors in expected.items():
        left = found[stem] if isinstance(tensors, list) else [found[stem]]
        right = tensors if isinstance(tensors, list) else [tensors]
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert one.dtype is other.dtype
            assert torch.allclose(one, other, rtol=0, atol=1e-6)
