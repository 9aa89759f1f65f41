"""``--migrations``: a repository's own steps, applied to people's files."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.cli import main

PREFIX = "forecaster.predictor."
STEPS = """
from pytest_nlam_compat.migrations import (
    Holds, Migration, PermuteInputBlocks, Rename
)

MIGRATIONS = [
    Migration(
        id="0.8.0-grid-update",
        since="0.8.0",
        reason="Named by what it does (#800).",
        operations=(
            Rename(
                "forecaster.predictor.encoding_grid_mlp",
                "forecaster.predictor.grid_update_mlp",
            ),
        ),
        when=Holds("encoding_grid_mlp"),
    ),
    Migration(
        id="0.8.0-states",
        since="0.8.0",
        reason="The older state first (#801).",
        operations=(
            PermuteInputBlocks(
                "forecaster.predictor.grid_embedder.0.weight",
                ("prev_state", "prev_prev_state"),
                ("prev_prev_state", "prev_state"),
            ),
        ),
        when=Holds("grid_embedder"),
    ),
]
"""
IDS = ["0.8.0-grid-update", "0.8.0-states"]


@pytest.fixture
def run(owned, tmp_path, monkeypatch, capsys):
    """Run a command where a case and a repository's steps are."""
    monkeypatch.chdir(tmp_path)
    Path("steps.py").write_text(STEPS, encoding="utf-8")

    def call(command, *arguments, name=None):
        if name is not None:
            shutil.copy(owned(name).checkpoint, "old.ckpt")
        status = main([command, *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out + err

    return call


def data_of(file):
    with read_checkpoint(Path(file)) as checkpoint:
        return checkpoint.data


def upgraded(run, *arguments, name=None):
    return run(
        "upgrade", "old.ckpt", "--migrations", "steps.py", *arguments, name=name
    )


@pytest.mark.parametrize("name", ["0.7.0-graph_lam", "0.5.0-hi_lam"])
def test_they_come_after_those_of_releases(run, owned, name):
    graph = ("--graph", owned(name).graph, "--graph-out", "graph")
    status, out = upgraded(run, *graph, name=name)
    assert status == 0
    for step in IDS:
        assert f"\n  {step}\n" in out
    before = Path("old.ckpt").read_bytes()
    new = data_of("upgraded_old.ckpt")
    weights = new["state_dict"]
    modules = {key.removeprefix(PREFIX).split(".")[0] for key in weights}
    assert "grid_update_mlp" in modules
    assert "encoding_grid_mlp" not in modules
    record = new["nlam_compat"]
    assert record["repository"] == IDS
    assert record["migrations"][-2:] == IDS
    assert record["layout"] == "0.7.0"
    assert Path("old.ckpt").read_bytes() == before
    # Neither here nor by itself is anything applied twice.
    for options in (["--migrations", "steps.py"], []):
        status, out = run("upgrade", "upgraded_old.ckpt", *options)
        assert status == 0
        assert "has the layout of 0.7.0 with 0.8.0-grid-update" in out
        assert not Path("upgraded_upgraded_old.ckpt").exists()


def test_a_folder_of_them(run, tmp_path):
    folder = tmp_path / "lam_tests" / "migrations"
    folder.mkdir(parents=True)
    (folder / "steps.py").write_text(STEPS, encoding="utf-8")
    status, out = run(
        *("upgrade", "old.ckpt", "--dry-run", "--migrations", str(folder)),
        name="0.7.0-graph_lam",
    )
    assert status == 0
    assert "0.8.0-states" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MIGRATIONS = []", "There are no migrations."),
        ("MIGRATIONS = [", "can't be imported"),
        ("raise SystemExit(0)", "can't be imported"),
        ("", "A file of migrations has no MIGRATIONS."),
        (
            STEPS.replace('"0.8.0-states"', '"0.7.0-forecaster"'),
            "Two migrations have the id '0.7.0-forecaster'.",
        ),
        (
            STEPS.replace('since="0.8.0"', 'since="0.5.0"'),
            "No migration of the repository applies to the file.",
        ),
        (
            STEPS.replace("grid_embedder.0", "grid_embedder.7"),
            "Nothing in the saved run matches",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run, text, said):
    Path("steps.py").write_text(text, encoding="utf-8")
    status, out = upgraded(run, name="0.7.0-graph_lam")
    assert status == 1
    assert said in out
    assert "Traceback" not in out
    assert not Path("upgraded_old.ckpt").exists()


def test_there_is_no_such_file(run):
    status, out = run(
        *("upgrade", "old.ckpt", "--migrations", "gone.py"),
        name="0.7.0-graph_lam",
    )
    assert status == 1
    assert out.startswith("The migrations of the repository don't exist.")


def test_a_file_that_no_step_concerns(run):
    status, out = upgraded(run, name="0.7.0-graph_efm-multiscale")
    assert status == 1
    assert out.startswith("No migration of the repository applies to the file.")
    assert "0.8.0-states: for files before 0.8.0, with Holds('grid_em" in out


def test_further_steps_need_the_file_as_its_release_wrote_it(run):
    assert upgraded(run, name="0.7.0-graph_lam")[0] == 0
    more = STEPS.replace("0.8.0-states", "0.8.0-further")
    Path("steps.py").write_text(more, encoding="utf-8")
    status, out = run(
        "upgrade", "upgraded_old.ckpt", "--migrations", "steps.py"
    )
    assert status == 1
    assert "  it lacks: 0.8.0-further" in out
    assert "Upgrade the file that it was made from." in out


def test_an_output_that_lacks_a_step_is_not_done(run, owned):
    Path("runs").mkdir()
    shutil.copy(owned("0.7.0-graph_lam").checkpoint, "runs/old.ckpt")
    folder = ("upgrade", "runs", "--migrations", "steps.py")
    assert run(*folder)[0] == 0
    assert "was converted before: upgraded_old.ckpt" in run(*folder)[1]
    more = STEPS.replace("0.8.0-states", "0.8.0-further")
    Path("steps.py").write_text(more, encoding="utf-8")
    status, out = run(*folder)
    assert status == 1
    assert "upgraded_OLD exists already." in out


def test_weights_that_no_release_has_are_refused_before_them(run, owned):
    import torch

    file = torch.load(owned("0.7.0-graph_lam").checkpoint, weights_only=False)
    file["state_dict"]["forecaster.predictor.extra"] = torch.zeros(1)
    torch.save(file, "old.ckpt")
    status, out = upgraded(run)
    assert status == 1
    assert "unexpected: forecaster.predictor.extra" in out


@pytest.mark.parametrize("forged", ["text", 3, {"a": 1}, [1], ["\x1b[31mred"]])
def test_a_record_that_was_changed_by_hand(run, owned, forged):
    import torch

    file = torch.load(owned("0.7.0-graph_lam").checkpoint, weights_only=False)
    file["nlam_compat"] = {"layout": "0.7.0", "repository": forged}
    torch.save(file, "old.ckpt")
    assert run("inspect", "old.ckpt")[0] == 0
    for status, out in (run("upgrade", "old.ckpt"), upgraded(run)):
        assert "\x1b" not in out
        assert "Traceback" not in out
        readable = status == 0 or "nlam_compat.repository" in out
        assert readable or "it lacks" in out


def test_inspect_names_them_and_the_command(run):
    status, out = run(
        *("inspect", "old.ckpt", "--migrations", "steps.py", "--json"),
        name="0.7.0-graph_lam",
    )
    assert status == 0
    found = json.loads(out)
    assert [step["id"] for step in found["migrations"]] == IDS
    # The states are counted in the file, forcing and statics are not needed.
    assert found["next"] == (
        "nlam-compat upgrade old.ckpt --migrations steps.py"
    )
    assert upgraded(run)[0] == 0
    status, out = run(
        "inspect", "upgraded_old.ckpt", "--migrations", "steps.py", "--json"
    )
    found = json.loads(out)
    assert found["migrations"] == []
    assert found["next"].startswith("nlam-compat check ")
    assert found["origin"]["evidence"] == [
        f"migrated to 0.7.0 with {', '.join(IDS)} before: 0.7.0"
    ]


@pytest.mark.neural_lam
@pytest.mark.slow
def test_the_development_install_loads_what_was_converted(
    owned, tmp_path, monkeypatch
):
    case = owned("0.6.0-graph_lam")
    shutil.copytree(case.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "steps.py").write_text(STEPS, encoding="utf-8")
    spec = importlib.util.find_spec("neural_lam")
    copy = tmp_path / "clone" / "neural_lam"
    shutil.copytree(Path(spec.origin).parent, copy)
    model = copy / "models/step_predictors/graph/base.py"
    text = model.read_text(encoding="utf-8")
    text = text.replace("self.encoding_grid_mlp", "self.grid_update_mlp")
    states = "                prev_state,\n                prev_prev_state,\n"
    assert text.count(states) == 1
    older, newer = reversed(states.splitlines(keepends=True)), states
    model.write_text(text.replace(newer, "".join(older)), encoding="utf-8")

    def command(name, *arguments):
        done = subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "pytest_nlam_compat"),
                *(name, *map(str, arguments)),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(copy.parent), "PATH": ""},
        )
        return done.returncode, done.stdout + done.stderr

    graph = ("--graph", case.graph)
    own = ("--migrations", "steps.py")
    status, out = command("check", "checkpoint.ckpt", *graph, *own)
    assert status == 1
    assert "checkpoint.ckpt has the layout of an older release." in out
    assert command("upgrade", "checkpoint.ckpt", *own)[0] == 0
    for options in (own, ()):
        status, out = command(
            "check", "upgraded_checkpoint.ckpt", *graph, *options
        )
        assert status == 0, out
        assert "loads: strictly" in out
