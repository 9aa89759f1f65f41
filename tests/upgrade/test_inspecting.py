import json
import subprocess
import sys

import pytest
import torch
from owned_runs import IDS

from pytest_nlam_compat.cli import main

ONE = "0.4.0-graph_lam"


def inspected(capsys, *files):
    assert main(["inspect", "--json", *map(str, files)]) == 0
    return json.loads(capsys.readouterr().out)


def shown(capsys, *files):
    assert main(["inspect", *map(str, files)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", IDS)
def test_the_release_is_detected_from_the_file_alone(
    name, owned, tmp_path, capsys
):
    # Under a name that says nothing, and with nothing beside it.
    file = tmp_path / "x"
    file.write_bytes(owned(name).checkpoint.read_bytes())
    found = inspected(capsys, file)
    assert found["origin"]["release"] == owned(name).release
    assert found["origin"]["evidence"]
    assert all(named["from"] for named in found["classes"])


def test_the_report_describes_the_run(owned, capsys):
    case = owned(ONE)
    found = inspected(capsys, case.checkpoint)
    weights = case.reference.state_dict
    assert found["model"] == "graph_lam"
    assert found["graph"] == case.reference.graph_name
    assert found["hyper_parameters"]["args.hidden_dim"] == 4
    assert found["hyper_parameters"]["config.datastore.kind"] == "mdp"
    assert {row["name"]: row["shape"] for row in found["tensors"]} == {
        name: list(tensor.shape) for name, tensor in weights.items()
    }
    assert {row["dtype"] for row in found["tensors"]} == {"float32"}
    assert found["buffers"] == 7
    assert found["parameters"] == sum(
        tensor.numel()
        for name, tensor in weights.items()
        if "lims" not in name and "idx" not in name
    )
    (optimizer,) = found["optimizers"]
    assert optimizer["state"] == ["step", "exp_avg", "exp_avg_sq"]
    assert optimizer["groups"][0]["betas"] == [0.9, 0.95]
    assert found["callbacks"] == []
    assert found["lr_schedulers"] == 0
    assert [step["id"] for step in found["migrations"]] == [
        "0.5.0-datastore-kind",
        "0.6.0-first-nodes",
        "0.6.0-animation",
        "0.7.0-forecaster",
    ]
    assert found["needs"] == ["graph"]


@pytest.mark.parametrize("name", IDS)
def test_the_screen_has_24_lines(name, owned, capsys):
    file = owned(name).checkpoint
    lines = shown(capsys, file).splitlines()
    assert len(lines) <= 24
    assert lines[0].startswith(f"{file}: ")
    assert lines[1] == f"written by: neural-lam {owned(name).release}"
    assert "saved on: cpu" in lines
    assert lines[-1] == f"  nlam-compat inspect --json {file}"


def test_the_screen_of_a_file_with_everything(owned, tmp_path, capsys):
    case = owned("0.6.0-graph_lam")
    tree = torch.load(case.checkpoint, weights_only=False)
    tree |= {f"extra_{index}": [index] for index in range(20)}
    tree["callbacks"] = {
        f"WeightAveraging{{'{index}': 1}}": {
            "average_model": {"layer": torch.ones(3)}
        }
        for index in range(5)
    }
    tree["fork"] = [slice(1), range(3), complex(1), bytearray(), frozenset]
    file = tmp_path / "big.ckpt"
    torch.save(tree, file)
    lines = shown(capsys, file).splitlines()
    assert len(lines) <= 24
    (callbacks,) = [line for line in lines if line.startswith("  callbacks ")]
    assert callbacks.endswith("5 tensors of 60 bytes, float32")
    assert sum("UNKNOWN" in line for line in lines) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("0.1.0-graph_lam", "--graph {g} --graph-out {out} --datastore {c}"),
        ("0.5.0-graph_lam", "--graph {g} --graph-out {out}"),
        ("0.6.0-graph_lam", ""),
    ],
)
def test_the_ready_command(name, options, owned, capsys):
    case = owned(name)
    out = case.folder / "upgraded_graph" / case.reference.graph_name
    config = case.folder / "config.yaml"
    command = f"nlam-compat upgrade {case.checkpoint} " + options.format(
        g=case.graph, out=out, c=config
    )
    assert inspected(capsys, case.checkpoint)["next"] == command.strip()
    lines = shown(capsys, case.checkpoint).splitlines()
    assert lines[lines.index("run next:") + 1] == f"  {command.strip()}"


def test_the_ready_command_has_places_for_what_is_not_there(
    owned, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "-my run.ckpt"
    file.write_bytes(owned("0.1.0-graph_lam").checkpoint.read_bytes())
    assert inspected(capsys, "./-my run.ckpt")["next"] == (
        "nlam-compat upgrade './-my run.ckpt' --graph DIR --graph-out NEW_DIR"
        " --datastore CONFIG"
    )


def test_a_file_of_the_newest_layout_is_checked_next(owned, capsys):
    case = owned("0.7.0-graph_lam")
    assert inspected(capsys, case.checkpoint)["next"] == (
        f"nlam-compat check {case.checkpoint} --graph {case.graph}"
        f" --datastore {case.folder / 'config.yaml'}"
    )


def test_a_graph_name_does_not_lead_elsewhere(owned, tmp_path, capsys):
    case = owned("0.5.0-graph_lam")
    tree = torch.load(case.checkpoint, weights_only=False)
    tree["hyper_parameters"]["args"].graph = f"../../{case.graph}"
    file = tmp_path / "odd.ckpt"
    torch.save(tree, file)
    assert "--graph DIR" in inspected(capsys, file)["next"]


def test_a_folder_is_named(owned, monkeypatch, capsys):
    monkeypatch.chdir(owned(ONE).folder)
    assert main(["inspect", "."]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{ONE} is a folder, and inspect takes files.\n")
    assert "\n  nlam-compat inspect checkpoint.ckpt\n" in error
    monkeypatch.chdir(owned(ONE).graph)
    assert main(["inspect", "."]) == 1
    assert capsys.readouterr().err.startswith("1level is a directory, ")


def test_an_error_is_json_where_json_is_asked_for(tmp_path, capsys):
    assert main(["inspect", "--json", str(tmp_path / "x.ckpt")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "problem": "x.ckpt can't be opened.",
        "facts": {
            "file": str(tmp_path / "x.ckpt"),
            "cause": "No such file or directory",
        },
        "remedy": "Check the path and its permissions.",
    }


def test_a_file_of_unknown_origin(tmp_path, capsys):
    file = tmp_path / "weights.pt"
    torch.save({"layer.weight": torch.zeros(2, 3)}, file)
    found = inspected(capsys, file)
    assert found["origin"] == {
        "release": None,
        "evidence": [],
        "problem": "It has no state_dict, so it is not a training checkpoint.",
    }
    assert found["migrations"] is None
    assert found["tensors"] == [
        {
            "name": "layer.weight",
            "shape": [2, 3],
            "dtype": "float32",
            "bytes": 24,
        }
    ]
    assert found["next"] is None


def test_odd_keys_and_values_are_shown_and_do_no_harm(tmp_path, capsys):
    file = tmp_path / "odd.ckpt"
    tree = {
        "state_dict": {3: torch.zeros(1), "\x1b[2J": torch.zeros(1)},
        "hyper_parameters": {"args": [float("inf"), {1, 2}], 7: "\x07" * 3000},
        "optimizer_states": [None, {"state": 3, "param_groups": "x"}],
        "callbacks": ["a"],
        "nlam_compat": "not ours",
    }
    torch.save(tree, file)
    text = shown(capsys, file)
    assert "\x1b" not in text
    assert "\x07" not in text
    found = inspected(capsys, file)
    assert found["hyper_parameters"]["args"] == ["inf", [1, 2]]
    assert found["record"] == "not ours"


def test_what_it_imports(owned):
    code = (
        "import sys; from pytest_nlam_compat.cli import main;"
        "status = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'neural_lam', 'pytest', 'pooch'};"
        "print(heavy & set(sys.modules)); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", owned(ONE).checkpoint],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("\nset()\n")
