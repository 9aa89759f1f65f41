"""Files of a part of a model of 0.7.0."""

import json
import os

import pytest
import torch

from pytest_nlam_compat.cli import main

PREFIX = "forecaster.predictor."


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def today(owned):
    """Give what 0.7.0 wrote, to be changed."""

    def load(case="graph_lam"):
        file = owned(f"0.7.0-{case}").checkpoint
        return torch.load(file, weights_only=False)

    return load


def cut(weights, prefix):
    return {
        name.removeprefix(prefix): tensor for name, tensor in weights.items()
    }


def test_a_predictor_alone_is_detected_once_it_has_its_prefix(
    today, tmp_path, capsys
):
    weights = today()["state_dict"]
    file = tmp_path / "predictor.pt"
    torch.save({"state_dict": cut(weights, PREFIX)}, file)
    assert run("upgrade", file) == 1
    assert (
        "  or: the predictor of 0.7.0 alone, without the prefix "
        "'forecaster.predictor.'\n"
    ) in capsys.readouterr().err
    assert run("upgrade", file, "--from", "0.7.0") == 1
    first = next(iter(weights))
    assert capsys.readouterr().err == (
        "The weights are a part of a model of neural-lam 0.7.0, without the "
        "prefix 'forecaster.predictor.'.\n"
        f"  found: {first.removeprefix(PREFIX)}\n"
        f"  expected: {first}\n"
        "Put 'forecaster.predictor.' before each name of the state_dict, and "
        "save that.\n"
    )
    assert os.listdir(tmp_path) == [file.name]
    torch.save({"state_dict": weights}, file)
    assert run("upgrade", file) == 0
    assert capsys.readouterr().out == (
        "predictor.pt has the layout of 0.7.0 already.\n"
    )


@pytest.mark.parametrize("command", ["upgrade", "inspect"])
@pytest.mark.parametrize("lacking", [PREFIX, "forecaster."])
def test_a_model_that_only_today_has_names_its_prefix(
    command, lacking, today, tmp_path, capsys
):
    file = tmp_path / "part.pt"
    weights = today("graph_efm")["state_dict"]
    torch.save({"state_dict": cut(weights, lacking)}, file)
    assert run(command, file) == (1 if command == "upgrade" else 0)
    shown = "".join(capsys.readouterr())
    assert (
        "The weights are a part of a model of neural-lam 0.7.0, without the "
        f"prefix '{lacking}'.\n"
    ) in shown


def test_a_whole_checkpoint_of_such_a_model_is_recognised(today, owned, capsys):
    assert run("inspect", owned("0.7.0-graph_efm").checkpoint, "--json") == 0
    origin = json.loads(capsys.readouterr().out)["origin"]
    assert origin["release"] == "0.7.0"
