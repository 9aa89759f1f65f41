import argparse
import importlib.util
import json

import pytest
import torch

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.cli import main

SILENT = "0.3.0-graph_lam"


def stamp(case, output, *arguments):
    return main(
        [
            *("stamp", str(case.checkpoint), "-o", str(output)),
            *("--statistics", str(case.statistics), *map(str, arguments)),
        ]
    )


def stamp_of(file):
    with read_checkpoint(file) as checkpoint:
        return checkpoint.data["nlam_compat"]["stamp"]


@pytest.fixture
def stamped(owned, tmp_path):
    """A file of 0.3.0 that was stamped afterwards."""
    case = owned(SILENT)
    file = tmp_path / "stamped.ckpt"
    assert stamp(case, file, "--graph", case.graph) == 0
    return file


def test_what_is_in_a_stamp(owned, stamped):
    case = owned(SILENT)
    found = stamp_of(stamped)
    assert found["neural_lam"] == {
        "version": "0.3.0",
        "commit": None,
        "dirty": None,
    }
    assert found["tool"] == f"pytest-nlam-compat {__version__}"
    assert found["lightning"] == "2.6.6"
    assert found["forcing_window"] == [1, 1]
    assert found["graph"]["name"] == case.reference.graph_name
    assert found["graph"]["format"] == "legacy"
    assert len(found["graph"]["fingerprint"]) == 64
    assert found["dataset"] == json.loads(case.statistics.read_text())


def test_what_the_command_prints(owned, tmp_path, capsys):
    case = owned(SILENT)
    file = tmp_path / "stamped.ckpt"
    assert stamp(case, file, "--graph", case.graph) == 0
    assert capsys.readouterr().out == (
        f"{file}: neural-lam 0.3.0, graph {case.reference.graph_name}\n"
    )


def test_a_stamped_file_needs_no_heuristics_and_no_statistics(
    owned, stamped, tmp_path, capsys
):
    case = owned(SILENT)
    with read_checkpoint(stamped) as checkpoint:
        # Evidence of nothing: only the stamp says which release it was.
        del checkpoint.data["hyper_parameters"]["config"]
        args = checkpoint.data["hyper_parameters"]["args"]
        assert args.attributes.pop("config_path")
        from pytest_nlam_compat.checkpoints.writer import write_checkpoint

        write_checkpoint(checkpoint.data, stamped, overwrite=True)
    capsys.readouterr()
    graph = ["--graph", str(case.graph), "--graph-out", str(tmp_path / "g")]
    assert main(["upgrade", str(stamped), *graph]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "stamped.ckpt was converted from 0.3.0 to 0.7.0:\n"
        "  stamped by 0.3.0: 0.3.0\n"
    )
    new = tmp_path / "upgraded_stamped.ckpt"
    whole = tmp_path / "whole"
    whole.mkdir()
    main(
        [
            *("upgrade", str(case.checkpoint), "-o", str(whole / "new.ckpt")),
            *("--statistics", str(case.statistics)),
            *("--graph", str(case.graph), "--graph-out", str(whole / "g")),
        ]
    )
    with (
        read_checkpoint(new) as one,
        read_checkpoint(whole / "new.ckpt") as other,
    ):
        refs = other.data["state_dict"]
        expected = {name: ref.load() for name, ref in refs.items()}
        for name, ref in one.data["state_dict"].items():
            tensor = ref.load()
            assert torch.equal(tensor, expected[name])
    after = stamp_of(new)["graph"]["fingerprint"]
    assert after != stamp_of(stamped)["graph"]["fingerprint"]
    # What is stamped is the graph that now goes with it.
    assert main(["upgrade", str(new), "--graph", str(tmp_path / "g")]) == 0


def test_a_graph_that_only_looks_right(owned, stamped, tmp_path, capsys):
    graph = tmp_path / "graph"
    graph.mkdir()
    for file in owned(SILENT).graph.iterdir():
        (graph / file.name).write_bytes(file.read_bytes())
    features = torch.load(graph / "m2g_features.pt")
    features[0, 0] += 1
    torch.save(features, graph / "m2g_features.pt")
    assert main(["upgrade", str(stamped), "--graph", str(graph)]) == 1
    error = capsys.readouterr().err
    assert "  compared: fingerprint in the stamp\n" in error


def test_the_fingerprint_does_not_depend_on_who_wrote_the_files(
    owned, stamped, tmp_path
):
    case = owned(SILENT)
    graph = tmp_path / "graph"
    graph.mkdir()
    for file in case.graph.glob("*.pt"):
        torch.save(torch.load(file), graph / file.name)
    again = tmp_path / "again.ckpt"
    assert stamp(case, again, "--graph", graph) == 0
    assert stamp_of(again)["graph"] == stamp_of(stamped)["graph"] | {
        "name": case.reference.graph_name
    }


def test_a_stamp_adds_no_class(owned, stamped):
    case = owned(SILENT)
    with (
        read_checkpoint(stamped) as new,
        read_checkpoint(case.checkpoint) as old,
    ):
        assert set(new.globals) == set(old.globals)


def test_in_place_and_twice(owned, tmp_path, capsys):
    case = owned("0.6.0-graph_lam")
    file = tmp_path / "run.ckpt"
    file.write_bytes(case.checkpoint.read_bytes())
    command = ["stamp", str(file), "--statistics", str(case.statistics)]
    assert main([*command, "--in-place"]) == 0
    assert capsys.readouterr().out == (
        f"{file}: neural-lam 0.6.0, without a graph\n"
    )
    backup = tmp_path / "run.ckpt.bak"
    assert backup.read_bytes() == case.checkpoint.read_bytes()
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(
        "run.ckpt has a stamp already.\n"
        f"  file: {file}\n"
        "  stamp: {'version': '0.6.0', 'commit': None, 'dirty': None}\n"
    )
    assert sorted(tmp_path.iterdir()) == [file, backup]


@pytest.mark.neural_lam
class TestTheCallback:
    @pytest.fixture
    def trained(self, owned, tmp_path):
        """A real training of 0.7.0 with the callback."""
        import pytorch_lightning as pl
        from neural_lam.config import NeuralLAMConfig
        from neural_lam.train_model import (
            load_forecaster_module_from_checkpoint,
        )
        from neural_lam.weather_dataset import WeatherDataset

        from pytest_nlam_compat.adapters.datastore import StoredDatastore
        from pytest_nlam_compat.stamp import ProvenanceStamp

        case = owned("0.7.0-graph_lam")
        reference = case.reference
        datastore = StoredDatastore(reference.dataset, case.folder, "f4")
        config = case.folder / "config.yaml"
        module = load_forecaster_module_from_checkpoint(
            str(case.checkpoint),
            NeuralLAMConfig.from_yaml_file(str(config)),
            datastore,
        )
        dataset = WeatherDataset(datastore, split="train", ar_steps=1)
        logger = pl.loggers.CSVLogger(tmp_path)
        trainer = pl.Trainer(
            callbacks=[ProvenanceStamp()],
            accelerator="cpu",
            logger=logger,
            max_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            default_root_dir=tmp_path,
        )
        loader = torch.utils.data.DataLoader(dataset, batch_size=1)
        trainer.fit(module, train_dataloaders=loader)
        file = tmp_path / "trained.ckpt"
        trainer.save_checkpoint(file)
        return case, file, logger

    def test_it_writes_and_logs_the_stamp(self, trained):
        import yaml

        case, file, logger = trained
        found = stamp_of(file)
        assert found["neural_lam"]["version"] == "0.7.0"
        assert found["torch"] == torch.__version__.partition("+")[0] or (
            found["torch"] == torch.__version__
        )
        reference = case.reference
        assert found["graph"]["name"] == reference.graph_name
        assert found["features"] == {
            category: list(names)
            for category, names in reference.dataset.names.items()
        }
        assert found["forcing_window"] == [1, 1]
        facts = json.loads(case.statistics.read_text())
        for name, numbers in facts["arrays"].items():
            torch.testing.assert_close(
                torch.tensor(found["dataset"]["arrays"][name]),
                torch.tensor(numbers),
                msg=name,
            )
        with open(f"{logger.log_dir}/hparams.yaml") as stream:
            logged = yaml.unsafe_load(stream)["nlam_compat"]
        assert logged == found

    def test_it_loads_as_before(self, trained):
        from neural_lam import config

        _, file, _ = trained
        allowed = [
            argparse.Namespace,
            config.DatastoreSelection,
            config.NeuralLAMConfig,
            config.OutputClamping,
            config.TrainingConfig,
            config.UniformFeatureWeighting,
        ]
        with torch.serialization.safe_globals(allowed):
            loaded = torch.load(file, weights_only=True)
        assert "stamp" in loaded["nlam_compat"]
        with read_checkpoint(file) as checkpoint:
            assert "nlam_compat" in checkpoint.data

    def test_the_command_gives_the_same_graph(self, trained, tmp_path):
        case, file, _ = trained
        again = tmp_path / "again.ckpt"
        assert stamp(case, again, "--graph", case.graph) == 0
        assert stamp_of(again)["graph"] == stamp_of(file)["graph"]

    def test_a_tree_that_hides_an_install_has_not_its_version(
        self, tmp_path, monkeypatch
    ):
        from pytest_nlam_compat import stamp

        tree = tmp_path / "neural_lam" / "__init__.py"
        spec = importlib.util.spec_from_file_location("neural_lam", tree)
        monkeypatch.setattr(stamp, "find_spec", lambda name: spec)
        assert stamp._installed_neural_lam()["version"] is None

    def test_a_model_without_a_datastore(self):
        import pytorch_lightning as pl

        from pytest_nlam_compat.errors import CompatError
        from pytest_nlam_compat.stamp import ProvenanceStamp

        with pytest.raises(CompatError) as error:
            ProvenanceStamp().on_save_checkpoint(None, pl.LightningModule(), {})
        assert "can't find the datastore" in error.value.what
        assert error.value.facts["model"] == "LightningModule"
        assert "set the attribute" in error.value.remedy
