"""Weights that were exported as safetensors, without a checkpoint."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.cli import main


def run(*arguments):
    return main([str(argument) for argument in arguments])


def export(checkpoint, file, metadata=None):
    """Write weights as the library safetensors does."""
    with read_checkpoint(checkpoint) as opened:
        refs = opened.data["state_dict"]
        weights = {name: ref.load() for name, ref in refs.items()}
    save_file(weights, file, metadata or {"format": "pt"})


def content(file):
    """Read the tensors and the metadata of a safetensors file."""
    with safe_open(file, "pt") as opened:
        return load_file(file), opened.metadata()


def needed(case, folder, config=None):
    facts = json.loads(case.statistics.read_text())
    if config:
        facts["config"] = config
    statistics = folder / "statistics.json"
    statistics.write_text(json.dumps(facts))
    return (
        *("--statistics", statistics),
        *("--graph", case.graph, "--graph-out", folder / "graph"),
    )


def of_kind(kind):
    return {"datastore": {"kind": kind, "config_path": "ds.yaml"}}


@pytest.mark.parametrize(
    "name",
    [
        "0.1.0-hi_lam",
        "0.2.0-graph_lam",
        "0.3.0-graph_lam",
        "0.4.0-graph_lam",
        "0.5.0-hi_lam",
        "0.6.0-graph_lam",
    ],
)
def test_they_equal_those_of_the_upgraded_checkpoint(name, owned, tmp_path):
    case = owned(name)
    whole, bare = tmp_path / "whole", tmp_path / "bare"
    whole.mkdir()
    bare.mkdir()
    given = needed(case, whole)
    assert run("upgrade", case.checkpoint, "-o", whole / "new", *given) == 0
    old = bare / "old.safetensors"
    export(case.checkpoint, old)
    before = old.read_bytes()
    # That of all references; from 0.4 on it makes no difference.
    given = needed(case, bare, of_kind("npyfilesmeps"))
    assert run("upgrade", old, "--from", case.release, *given) == 0
    assert old.read_bytes() == before
    found, metadata = content(bare / "upgraded_old.safetensors")
    with read_checkpoint(whole / "new") as checkpoint:
        refs = checkpoint.data["state_dict"]
        expected = {name: ref.load() for name, ref in refs.items()}
        steps = checkpoint.data["nlam_compat"]["migrations"]
    assert sorted(found) == sorted(expected)
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key
    assert metadata["format"] == "pt"
    record = json.loads(metadata["nlam_compat"])
    assert record["origin"] == case.release
    assert record["layout"] == "0.7.0"
    assert set(record["migrations"]) <= set(steps)
    assert record["migrations"][-1] == "0.7.0-forecaster"


def test_inspect_reports_what_names_tell(owned, tmp_path, capsys):
    file = tmp_path / "weights.safetensors"
    export(owned("0.6.0-graph_lam").checkpoint, file)
    assert run("inspect", file) == 0
    out = capsys.readouterr().out
    assert (
        "written by: neural-lam unknown\n"
        "  Several releases of neural-lam may have written this checkpoint.\n"
        "  buffers of output clamping: 0.4.0 to 0.7.0\n"
        "  left: 0.4.0, 0.5.0, 0.6.0\n"
        "  or: the predictor of 0.7.0 alone, without the prefix "
        "'forecaster.predictor.'\n"
    ) in out
    export(owned("0.7.0-graph_lam").checkpoint, file)
    assert run("inspect", file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["origin"]["release"] == "0.7.0"
    assert report["migrations"] == []


def test_an_ambiguous_release_is_refused(owned, tmp_path, capsys):
    file = tmp_path / "weights.safetensors"
    export(owned("0.6.0-graph_lam").checkpoint, file)
    assert run("upgrade", file) == 1
    assert capsys.readouterr().err.endswith(
        "  left: 0.4.0, 0.5.0, 0.6.0\n"
        "  or: the predictor of 0.7.0 alone, without the prefix "
        "'forecaster.predictor.'\n"
        "Name the release that wrote it with --from, such as --from 0.6.0. "
        "If it is "
        "the predictor alone, put 'forecaster.predictor.' before each name of "
        "the state_dict, and save it.\n"
    )
    assert os.listdir(tmp_path) == [file.name]


def test_a_step_that_hyper_parameters_decide_is_refused(
    owned, tmp_path, capsys
):
    case = owned("0.3.0-graph_lam")
    file = tmp_path / "weights.safetensors"
    export(case.checkpoint, file)
    given = needed(case, tmp_path)
    assert run("upgrade", file, "--from", "0.3.0", *given) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "depends on a hyper-parameter" in lines[0]
    assert lines[2] == "  depends on: config.datastore.kind"
    assert lines[3].startswith("  step 0.4.0-difference-statistics: The mdp")
    assert "--datastore CONFIG" in lines[4]
    assert '--statistics FILE with a "config"' in lines[4]
    assert not (tmp_path / "upgraded_weights.safetensors").exists()


@pytest.mark.parametrize("kind", ["npyfilesmeps", "mdp"])
def test_the_kind_of_the_datastore_decides(kind, owned, tmp_path):
    case = owned("0.3.0-graph_lam")
    file = tmp_path / "weights.safetensors"
    export(case.checkpoint, file)
    given = needed(case, tmp_path, of_kind(kind))
    assert run("upgrade", file, "--from", "0.3.0", *given) == 0
    _, metadata = content(tmp_path / "upgraded_weights.safetensors")
    record = json.loads(metadata["nlam_compat"])
    done = "0.4.0-difference-statistics" in record["migrations"]
    assert done == (kind == "mdp")


def test_changes_of_hyper_parameters_are_reported(owned, tmp_path, capsys):
    case = owned("0.2.0-graph_lam")
    file = tmp_path / "weights.safetensors"
    export(case.checkpoint, file)
    given = needed(case, tmp_path)
    assert run("upgrade", file, "--from", "0.2.0", *given) == 0
    out = capsys.readouterr().out
    note = out[out.index("The file has no hyper-parameters.") :]
    assert note.splitlines()[0].endswith("model with those of 0.7.0:")
    assert "\n  0.3.0-forcing-window: The window of the forcing can be" in note
    assert "  0.3.0-arguments: " in note


def test_twice_does_nothing(owned, tmp_path, capsys):
    file = tmp_path / "weights.safetensors"
    export(owned("0.6.0-graph_lam").checkpoint, file)
    assert run("upgrade", file, "--from", "0.6.0", "--in-place") == 0
    backup = tmp_path / "weights.safetensors.bak"
    assert backup.exists()
    before = file.read_bytes()
    capsys.readouterr()
    assert run("upgrade", file) == 0
    assert capsys.readouterr().out == (
        "weights.safetensors has the layout of 0.7.0 already.\n"
    )
    assert file.read_bytes() == before


def test_there_are_no_checksums(owned, tmp_path, capsys):
    file = tmp_path / "weights.safetensors"
    export(owned("0.6.0-graph_lam").checkpoint, file)
    for command in ("inspect", "upgrade"):
        assert run(command, file, "--verify") == 1
        assert capsys.readouterr().err.startswith(
            "weights.safetensors is a safetensors file, and these have no "
            "checksums.\n"
        )


def test_nothing_is_overwritten(owned, tmp_path, capsys):
    file = tmp_path / "weights.safetensors"
    export(owned("0.6.0-graph_lam").checkpoint, file)
    new = tmp_path / "upgraded_weights.safetensors"
    new.write_text("precious")
    assert run("upgrade", file, "--from", "0.6.0") == 1
    assert "upgraded_weights.safetensors exists" in capsys.readouterr().err
    assert new.read_text() == "precious"


def test_a_full_disk(owned, tmp_path, capsys, monkeypatch):
    file = tmp_path / "weights.safetensors"
    export(owned("0.6.0-graph_lam").checkpoint, file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run("upgrade", file, "--from", "0.6.0") == 1
    assert capsys.readouterr().err.startswith(
        "upgraded_weights.safetensors can't be written.\n"
    )
    assert os.listdir(tmp_path) == [file.name]
    assert file.read_bytes() == before
