"""``nlam-compat check``, with the real neural-lam and a real dataset."""

import json
import shlex
import shutil
from pathlib import Path

import mdp_dataset
import pytest
import torch

from pytest_nlam_compat.cli import main

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]


@pytest.fixture
def narrow_boundary(monkeypatch):
    """Let neural-lam forecast within grids as small as those of references."""
    from neural_lam.datastore.mdp import MDPDatastore

    _, *others = MDPDatastore.__init__.__defaults__
    monkeypatch.setattr(
        MDPDatastore.__init__, "__defaults__", (1, *others), raising=True
    )


@pytest.fixture
def project(owned, tmp_path, monkeypatch):
    """Give a case as it is on the disk of its owner, who works there."""

    def give(name):
        case = owned(name)
        shutil.copytree(case.folder, tmp_path, dirs_exist_ok=True)
        run = tmp_path / "saved_models" / "run"
        run.mkdir(parents=True)
        (tmp_path / "checkpoint.ckpt").rename(run / "old.ckpt")
        monkeypatch.chdir(tmp_path)
        return case

    return give


def command_of(text):
    """Return the command that a text ends with, or says to run next."""
    words = [
        line.split("nlam-compat ", 1)[1]
        for line in text.splitlines()
        if line.startswith("  nlam-compat ") and "inspect --json" not in line
    ]
    return shlex.split(words[-1])


def upgraded(capsys):
    """Upgrade the project's checkpoint; return the command that checks it."""
    assert main(["inspect", "saved_models/run/old.ckpt"]) == 0
    assert main(command_of(capsys.readouterr().out)) == 0
    return command_of(capsys.readouterr().out)


def checked(capsys, *arguments):
    status = main(["check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    "name",
    [
        "0.4.0-hi_lam",
        "0.5.0-graph_lam-square",
        "0.6.0-graph_lam-std-clamp",
    ],
)
def test_a_newcomer_follows_what_is_printed(
    name, project, narrow_boundary, capsys
):
    case = project(name)
    mdp_dataset.write_case(Path(), case.reference.dataset)
    command = upgraded(capsys)
    assert command[0] == "check"
    assert "config.yaml" in command
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "Loading it with neural-lam" in err
    assert out.startswith("loads: strictly, in neural-lam 0.7.0\n")
    assert "\nrollout: 3 steps from the first sample, finite at all " in out


def test_a_newcomer_with_an_early_release(project, capsys):
    project("0.1.0-hi_lam")
    assert main(["inspect", "saved_models/run/old.ckpt"]) == 0
    command = command_of(capsys.readouterr().out)
    assert command[-2:] == ["--datastore", "config.yaml"]
    # Of its dataset, there is nothing here but the statistics.
    assert main([*command[:-2], "--statistics", "statistics.json"]) == 0
    command = command_of(capsys.readouterr().out)
    assert main(command[: command.index("--datastore")]) == 0
    assert capsys.readouterr().out.startswith("loads: strictly, ")


def test_the_upgraded_file_names_the_same_command(project, capsys):
    project("0.5.0-graph_lam-square")
    command = upgraded(capsys)
    assert main(["inspect", "saved_models/run/upgraded_old.ckpt"]) == 0
    assert command_of(capsys.readouterr().out) == command


def test_a_rollout_has_the_outputs_of_the_reference(
    project, narrow_boundary, capsys
):
    case = project("0.7.0-graph_lam")
    mdp_dataset.write_case(Path(), case.reference.dataset)
    status, out, _ = checked(
        capsys,
        *("saved_models/run/old.ckpt", "--datastore", "config.yaml", "--json"),
    )
    assert status == 0
    found = json.loads(out)
    assert found["parameters"] == 936
    assert found["tensors"] == len(case.reference.state_dict)
    assert found["architecture"] == "graph_lam (GraphLAM)"
    # A grid of 9 x 6 nodes without its outermost ones.
    assert found["rollout"]["nodes"] == 7 * 4
    assert found["rollout"]["steps"] == 3
    assert found["rollout"]["error"] > 0


@pytest.mark.parametrize(
    "name",
    [
        "0.7.0-graph_lam-clamp",
        "0.7.0-graph_lam-std-clamp",
        "0.7.0-graph_lam-weights",
        "0.7.0-graph_lam-window21",
        "0.7.0-hi_lam-3level",
        "0.7.0-hi_lam_parallel",
        "0.7.0-graph_lam-propagation",
    ],
)
def test_without_a_datastore_the_layout_is_checked(name, owned, capsys):
    case = owned(name)
    status, out, _ = checked(capsys, case.checkpoint, "--graph", case.graph)
    assert status == 0
    assert "not checked: a rollout (pass --datastore CONFIG)" in out


def test_an_older_layout_is_refused_with_the_command(project, capsys):
    project("0.6.0-graph_lam")
    status, out, err = checked(
        capsys, "saved_models/run/old.ckpt", "--graph", "graph/1level"
    )
    assert (status, out) == (1, "")
    assert "old.ckpt has the layout of an older release." in err
    assert "runs its pickle" not in err
    assert command_of(err) == ["upgrade", "saved_models/run/old.ckpt"]


def test_the_graph_of_before_the_upgrade_is_refused(project, capsys):
    project("0.5.0-graph_lam-square")
    file, *_ = upgraded(capsys)[1:]
    status, _, err = checked(capsys, file, "--graph", "graph/1level")
    assert status == 1
    assert "not the graph that the checkpoint was upgraded with" in err


def test_where_neural_lam_reads_the_graph_is_said(
    project, narrow_boundary, capsys
):
    case = project("0.5.0-graph_lam-square")
    mdp_dataset.write_case(Path(), case.reference.dataset)
    assert main(upgraded(capsys)) == 0
    out = capsys.readouterr().out
    assert "to do: neural-lam reads the graph from graph/1level;" in out


def changed(case, folder, change):
    tree = torch.load(case.checkpoint, weights_only=False)
    change(tree["state_dict"])
    file = folder / "changed.ckpt"
    torch.save(tree, file)
    return file


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights.popitem(), "Missing key(s)"),
        (lambda weights: weights.update(ema=torch.zeros(2)), "Unexpected key"),
        (
            lambda weights: weights.update(
                {name: tensor[:1] for name, tensor in [*weights.items()][-2:]}
            ),
            "size mismatch",
        ),
    ],
)
def test_weights_that_do_not_fit(change, told, owned, tmp_path, capsys):
    case = owned("0.7.0-graph_lam")
    file = changed(case, tmp_path, change)
    status, out, err = checked(capsys, file, "--graph", case.graph)
    assert (status, out) == (1, "")
    assert "neural-lam can't load the file." in err
    assert told in err


def test_a_loader_that_drops_weights(owned, capsys, monkeypatch):
    from neural_lam.models import ForecasterModule

    case = owned("0.7.0-graph_lam")

    def forget(self, checkpoint):
        weights = checkpoint["state_dict"]
        name = next(name for name in weights if name.endswith("weight"))
        weights[name] = torch.zeros_like(weights[name])

    monkeypatch.setattr(ForecasterModule, "on_load_checkpoint", forget)
    status, _, err = checked(capsys, case.checkpoint, "--graph", case.graph)
    assert status == 1
    assert "not all of its weights" in err
    assert "not the values of the file: forecaster.predictor." in err


def test_a_run_that_diverged(project, narrow_boundary, capsys):
    case = project("0.7.0-graph_lam")
    mdp_dataset.write_case(Path(), case.reference.dataset)

    def diverge(weights):
        weights[[*weights][-1]].fill_(float("inf"))

    file = changed(case, Path("saved_models/run"), diverge)
    status, out, err = checked(capsys, file, "--datastore", "config.yaml")
    assert (status, out) == (1, "")
    assert "values that are not finite" in err


def test_a_hostile_file_is_never_unpickled(owned, tmp_path, capsys):
    import os

    class Payload:
        def __reduce__(self):
            # neural-lam unpickles it twice.
            return os.makedirs, (str(tmp_path / "ran"), 0o777, True)

    case = owned("0.7.0-graph_lam")
    tree = torch.load(case.checkpoint, weights_only=False)
    file = tmp_path / "hostile.ckpt"
    torch.save({**tree, "callbacks": {"x": Payload()}}, file)
    status, out, err = checked(capsys, file, "--graph", case.graph)
    assert (status, out) == (1, "")
    assert "names classes that no checkpoint of neural-lam contains" in err
    assert not (tmp_path / "ran").exists()
    # Allowed by name, it is loaded.
    arguments = (file, "--graph", case.graph, "--allow", "os.makedirs")
    status, _, err = checked(capsys, *arguments)
    assert status == 0
    assert "names only known classes and os.makedirs." in err
    assert (tmp_path / "ran").exists()


def test_a_hostile_graph_is_never_unpickled(owned, tmp_path, capsys):
    import os

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    case = owned("0.7.0-graph_lam")
    graph = tmp_path / "1level"
    shutil.copytree(case.graph, graph)
    torch.save(Payload(), graph / "g2m_features.pt")
    status, _, err = checked(capsys, case.checkpoint, "--graph", graph)
    assert status == 1
    assert "g2m_features.pt" in err
    assert not (tmp_path / "ran").exists()


def test_a_graph_elsewhere_is_not_linked(owned, tmp_path, capsys):
    case = owned("0.7.0-graph_lam")
    tree = torch.load(case.checkpoint, weights_only=False)
    file = tmp_path / "odd.ckpt"
    for name in (str(tmp_path / "link"), "../../link", ""):
        tree["hyper_parameters"]["args"].graph = name
        torch.save(tree, file)
        status, out, err = checked(capsys, file, "--graph", case.graph)
        assert (status, out) == (1, "")
        assert "names no graph below the datastore's folder of" in err
    assert list(tmp_path.iterdir()) == [file]


def test_it_needs_a_graph(project, capsys):
    project("0.7.0-graph_lam")
    status, _, err = checked(capsys, "saved_models/run/old.ckpt")
    assert status == 1
    assert command_of(err) == [
        *("check", "saved_models/run/old.ckpt", "--graph", "graph/1level"),
        *("--datastore", "config.yaml"),
    ]


def test_a_model_that_the_loader_can_not_build(owned, capsys):
    case = owned("0.7.0-graph_efm")
    status, _, err = checked(capsys, case.checkpoint, "--graph", case.graph)
    assert status == 1
    assert "missing: hyper_parameters.args" in err
