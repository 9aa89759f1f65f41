import json

import pytest
import torch

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.cli import main
from pytest_nlam_compat.migrations import (
    apply,
    plan,
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.migrations.saved_run import Statistics
from pytest_nlam_compat.references.reference import read_graph

ONLY_RENAMED = "0.6.0-graph_lam"


@pytest.fixture
def old(owned, tmp_path):
    """A checkpoint of 0.6.0, which needs no graph and no statistics."""
    file = tmp_path / "old.ckpt"
    file.write_bytes(owned(ONLY_RENAMED).checkpoint.read_bytes())
    return file


def upgrade(*arguments):
    return main(["upgrade", *map(str, arguments)])


def everything(case, folder):
    return (
        *(case.checkpoint, "-o", folder / "new.ckpt"),
        *("--graph", case.graph, "--graph-out", folder / "graph"),
        *("--statistics", case.statistics),
    )


def record_of(file):
    with read_checkpoint(file) as checkpoint:
        return checkpoint.data["nlam_compat"]


def by_torch(case):
    """The same run through the migrations on tensors of torch."""
    with read_checkpoint(case.checkpoint) as checkpoint:
        run = saved_run_from_checkpoint(
            checkpoint.data,
            graph=read_graph(case.graph),
            graph_format=graph_format(case.graph),
            grid_shape=case.reference.dataset.grid_shape,
            statistics=Statistics.of_dataset(case.reference.dataset),
        )
    run = run.double()
    steps = plan(run, "0.7.0", origin=case.release)
    return apply(run, steps).map_tensors(
        lambda t: t.float() if t.dtype == torch.float64 else t
    )


@pytest.mark.parametrize(
    "name",
    [
        "0.1.0-hi_lam",
        "0.2.0-graph_lam",
        "0.3.0-hi_lam_parallel",
        "0.4.0-graph_lam-square",
        "0.5.0-hi_lam-3level",
        "0.6.0-graph_lam-std-clamp",
    ],
)
def test_it_equals_the_migrations_on_tensors(name, owned, tmp_path):
    case = owned(name)
    assert upgrade(*everything(case, tmp_path)) == 0
    run = by_torch(case)
    expected = to_checkpoint_dict(run)
    with read_checkpoint(tmp_path / "new.ckpt") as checkpoint:
        refs = checkpoint.data["state_dict"]
        weights = {name: ref.load() for name, ref in refs.items()}
        (optimizer,) = checkpoint.data["optimizer_states"]
        moments = {
            (position, kind): ref.load()
            for position, kinds in optimizer["state"].items()
            for kind, ref in kinds.items()
        }
    assert list(weights) == list(expected["state_dict"])
    for key, tensor in weights.items():
        torch.testing.assert_close(tensor, expected["state_dict"][key])
    wanted = {
        (position, kind): tensor
        for position, kinds in expected["optimizer_states"][0]["state"].items()
        for kind, tensor in kinds.items()
    }
    assert list(moments) == list(wanted)
    for key, tensor in moments.items():
        torch.testing.assert_close(tensor, wanted[key])
    written = read_graph(tmp_path / "graph")
    assert list(written) == list(run.graph)
    for stem, content in run.graph.items():
        torch.testing.assert_close(written[stem], content)


def test_the_default_output_is_beside_the_old_file(old, capsys):
    before = old.read_bytes()
    assert upgrade(old) == 0
    new = old.with_name("upgraded_old.ckpt")
    assert capsys.readouterr().out == (
        "old.ckpt was converted from 0.6.0 to 0.7.0:\n"
        "  no weights under forecaster.: 0.1.0 to 0.6.0\n"
        "  buffers of output clamping: 0.4.0 to 0.7.0\n"
        "  a config in the hyper-parameters: 0.3.0 to 0.7.0\n"
        "  the set of args: 0.6.0\n"
        "steps:\n"
        "  0.7.0-forecaster\n"
        f"checkpoint: {new}\n"
        "Check it with neural-lam itself:\n"
        f"  nlam-compat check {new} --graph DIR\n"
    )
    assert sorted(old.parent.iterdir()) == [old, new]
    assert old.read_bytes() == before


def test_it_is_recorded_in_the_file(old):
    upgrade(old)
    assert record_of(old.with_name("upgraded_old.ckpt")) == {
        "layout": "0.7.0",
        "migrations": ["0.7.0-forecaster"],
        "origin": "0.6.0",
        "evidence": [
            "no weights under forecaster.: 0.1.0 to 0.6.0",
            "buffers of output clamping: 0.4.0 to 0.7.0",
            "a config in the hyper-parameters: 0.3.0 to 0.7.0",
            "the set of args: 0.6.0",
        ],
        "tool": f"pytest-nlam-compat {__version__}",
        "optimizer_reset": {},
    }


def test_twice_does_nothing(old, capsys):
    upgrade(old)
    new = old.with_name("upgraded_old.ckpt")
    before = new.read_bytes()
    capsys.readouterr()
    assert upgrade(new) == 0
    assert capsys.readouterr().out == (
        "upgraded_old.ckpt has the layout of 0.7.0 already.\n"
        "Check it with neural-lam itself:\n"
        f"  nlam-compat check {new} --graph DIR\n"
    )
    assert sorted(old.parent.iterdir()) == [old, new]
    assert new.read_bytes() == before


def test_in_two_upgrades_each_step_is_applied_once(owned, tmp_path):
    case = owned("0.1.0-graph_lam")
    middle = tmp_path / "graph" / case.graph.name
    arguments = list(everything(case, tmp_path))
    arguments[arguments.index("--graph-out") + 1] = middle
    upgrade(*arguments, "--to", "0.4.0")
    assert record_of(tmp_path / "new.ckpt")["layout"] == "0.4.0"
    status = upgrade(
        *(tmp_path / "new.ckpt", "-o", tmp_path / "newer.ckpt"),
        *("--graph", middle),
        *("--graph-out", tmp_path / "newer"),
    )
    assert status == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    upgrade(*everything(case, whole))
    stepwise, at_once = (
        record_of(tmp_path / "newer.ckpt"),
        record_of(whole / "new.ckpt"),
    )
    assert stepwise["origin"] == at_once["origin"] == "0.1.0"
    assert set(stepwise["migrations"]) >= set(at_once["migrations"])
    assert len(set(stepwise["migrations"])) == len(stepwise["migrations"])
    newer, once = read_graph(tmp_path / "newer"), read_graph(whole / "graph")
    for stem, content in once.items():
        torch.testing.assert_close(newer[stem], content)
    assert list(torch.load(whole / "new.ckpt", weights_only=False)) == list(
        torch.load(tmp_path / "newer.ckpt", weights_only=False)
    )


def test_what_the_optimizer_loses_is_reported(owned, tmp_path, capsys):
    assert upgrade(*everything(owned("0.3.0-graph_lam"), tmp_path)) == 0
    out = capsys.readouterr().out
    key = "grid_embedder.0.weight.exp_avg_sq"
    assert f"Optimizer, forecaster.predictor.{key}: columns" in out
    reset = record_of(tmp_path / "new.ckpt")["optimizer_reset"]
    assert list(reset) == [f"forecaster.predictor.{key}"]


def test_a_run_without_a_configuration_gets_one(owned, tmp_path, capsys):
    case = owned("0.2.0-graph_lam")
    assert upgrade(*everything(case, tmp_path)) == 0
    (note,) = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("The checkpoint has no configuration")
    ]
    assert "--datastore CONFIG" in note
    loaded = torch.load(tmp_path / "new.ckpt", weights_only=False)
    config = loaded["hyper_parameters"]["config"]
    assert config.datastore.kind == "npyfilesmeps"
    assert config.training.output_clamping.lower == {}


def test_a_configuration_comes_with_the_statistics(owned, tmp_path):
    case = owned("0.2.0-graph_lam")
    given = tmp_path / "statistics.json"
    facts = json.loads(case.statistics.read_text())
    weights = {"t_2": 0.25, "u_65": 2.0}
    facts["config"] = {
        "datastore": {"kind": "mdp", "config_path": "era.yaml"},
        "training": {
            "state_feature_weighting": {
                "__config_class__": "ManualStateFeatureWeighting",
                "weights": weights,
            }
        },
    }
    given.write_text(json.dumps(facts))
    arguments = list(everything(case, tmp_path))
    arguments[-1] = given
    assert upgrade(*arguments) == 0
    loaded = torch.load(tmp_path / "new.ckpt", weights_only=False)
    config = loaded["hyper_parameters"]["config"]
    assert config.datastore.config_path == "era.yaml"
    assert config.training.state_feature_weighting.weights == weights


def test_halves_in_bfloat16_are_folded_as_torch_rounds(owned, tmp_path):
    case = owned("0.2.0-graph_lam")
    content = torch.load(case.checkpoint, weights_only=False)
    weights = content["state_dict"]
    for name in weights:
        weights[name] = weights[name].bfloat16()
    content["optimizer_states"] = []
    file = tmp_path / "old.ckpt"
    torch.save(content, file)
    arguments = everything(case, tmp_path)[1:]
    assert upgrade(file, *arguments) == 0
    with read_checkpoint(file) as checkpoint:
        run = saved_run_from_checkpoint(
            checkpoint.data,
            graph=read_graph(case.graph),
            grid_shape=case.reference.dataset.grid_shape,
            statistics=Statistics.of_dataset(case.reference.dataset),
        ).double()
    run = apply(run, plan(run, "0.7.0", origin="0.2.0"))
    with read_checkpoint(tmp_path / "new.ckpt") as checkpoint:
        refs = checkpoint.data["state_dict"]
        new = {name: ref.load() for name, ref in refs.items()}
    for name, tensor in new.items():
        if tensor.numel():
            assert tensor.dtype == torch.bfloat16, name
            assert torch.equal(tensor, run.state_dict[name].bfloat16()), name


def test_an_ensemble_model_of_today_needs_no_upgrade(owned, tmp_path, capsys):
    case = owned("0.7.0-graph_efm")
    assert main(["inspect", str(case.checkpoint), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # It was not built by the command line: there are no arguments in it.
    assert report["model"] is None
    assert report["hyper_parameters"]["config.datastore.kind"] == "mdp"
    assert report["origin"]["release"] == "0.7.0"
    assert report["migrations"] == report["needs"] == []
    assert upgrade(case.checkpoint) == 0
    assert capsys.readouterr().out == (
        "checkpoint.ckpt has the layout of 0.7.0 already.\n"
    )
    assert not case.checkpoint.with_name("upgraded_checkpoint.ckpt").exists()


@pytest.mark.parametrize("dry", [True, False])
def test_what_needs_no_change_is_there_afterwards(dry, owned, tmp_path, capsys):
    case = owned("0.7.0-graph_lam")
    options = ("--dry-run",) if dry else ()
    assert upgrade(*everything(case, tmp_path), *options) == 0
    out = capsys.readouterr().out
    assert out.startswith("checkpoint.ckpt has the layout of 0.7.0 already.\n")
    assert "copied, byte for byte" in out
    if dry:
        assert list(tmp_path.iterdir()) == []
        return
    new = tmp_path / "new.ckpt"
    assert new.read_bytes() == case.checkpoint.read_bytes()
    for file in case.graph.iterdir():
        assert (tmp_path / "graph" / file.name).read_bytes() == (
            file.read_bytes()
        )
    assert upgrade(case.checkpoint, "-o", new) == 1
    assert "exists" in capsys.readouterr().err


def test_the_graph_alone_can_be_copied(owned, tmp_path):
    case = owned("0.7.0-graph_lam")
    out = ("--graph", case.graph, "--graph-out", tmp_path / "graph")
    assert upgrade(case.checkpoint, *out) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["graph"]
