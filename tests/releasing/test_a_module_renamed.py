"""A release that old checkpoints need a migration for, and interruptions."""

import io
import json
import os
import signal
import subprocess
import zipfile

import pytest
import torch
from simulated import (
    RENAMED,
    clone,
    command,
    content,
    offline,
    only,
    wheel,
)

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

STEP = """
from pytest_nlam_compat.migrations.migration import Holds
from pytest_nlam_compat.migrations.operations import Rename

HISTORY += (
    Migration(
        id="0.8.0-grid-mlp",
        since="0.8.0",
        reason="The MLP of the grid has another name.",
        operations=(
            Rename(f"{PREFIX}encoding_grid_mlp", f"{PREFIX}grid_mlp"),
        ),
        # Graph-EFM has no such module.
        when=Holds("encoding_grid_mlp"),
    ),
)
"""
NAMES = "RENAMED: dict[str, dict[str, str]] = {", "}\n"
ENTRY = '"0.8.0": {"encoding_grid_mlp": "grid_mlp"}'


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Have a copy of this project with few references, and the release."""
    folder = tmp_path_factory.mktemp("renamed")
    project = clone(folder / "project")
    only(project, "0.6.0", "0.7.0", cases=("graph_lam",))
    wheel(folder, "0.8.0", RENAMED)
    return project


def start(project):
    package = project.parent / "neural_lam-0.8.0-py3-none-any.whl"
    return subprocess.Popen(
        command("0.8.0", "--neural-lam", str(package)),
        cwd=project,
        env=offline(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
def test_an_interrupt_leaves_nothing(project):
    before = content(project)
    running = start(project)
    for line in running.stderr:
        if line.startswith("3/5"):
            os.killpg(running.pid, signal.SIGINT)
            break
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in err
    assert out == ""
    assert content(project) == before


def test_a_migration_is_needed_first(project):
    before = content(project)
    running = start(project)
    out, err = running.communicate()
    assert running.returncode == 1
    assert out == ""
    message = err[err.index("neural-lam 0.8.0 needs a migration first") :]
    assert "  fail of 0.6.0: 14, 0.6.0-graph_lam, " in message
    assert "  fail of 0.7.0: 22, 0.7.0-graph_lam, " in message
    assert "fail of 0.8.0" not in message
    assert "suggest" in message
    assert f"{project}/pytest_nlam_compat/migrations/history.py" in message
    assert content(project) == before
    # What it says to run says what to add.
    line = next(each for each in message.splitlines() if "suggest" in each)
    run = f"{line} --case graph_lam"
    found = subprocess.run(run, shell=True, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert 'Rename("forecaster.predictor.encoding_grid_mlp"' in "".join(
        found.stdout.split()
    )
    assert 'id="0.8.0-rename"' in found.stdout
    assert 'since="0.8.0"' in found.stdout
    assert found.stdout.splitlines()[-1].startswith(
        "Add it to migrations/history.py"
    )
    assert content(project) == before


def test_names_that_the_layout_lacks_are_refused(project):
    """By the step that the release runs once all references pass."""
    staged = project / ".release" / "0.8.0" / "project"
    done = subprocess.run(
        [
            staged.parent / "environment" / "bin" / "python",
            *("-m", "pytest_nlam_compat.releasing", "origins"),
            staged / "fixtures" / "0.8.0.zip",
        ],
        cwd=staged,
        env=offline(staged),
        capture_output=True,
        text=True,
    )
    error = json.loads(done.stdout)
    assert done.returncode == 1
    assert error["problem"].startswith("migrations/layout.py does not have")
    assert ".grid_mlp.0.weight" in error["facts"]["unexpected"]
    assert ".encoding_grid_mlp.0.weight" in error["facts"]["missing"]


def test_with_the_migration_it_goes_through(project):
    history = project / "pytest_nlam_compat" / "migrations" / "history.py"
    with history.open("a", encoding="utf-8") as file:
        file.write(STEP)
    layout = history.with_name("layout.py")
    text = layout.read_text(encoding="utf-8")
    assert text.count("".join(NAMES)) == 1
    text = text.replace("".join(NAMES), ENTRY.join(NAMES))
    layout.write_text(text, encoding="utf-8")
    running = start(project)
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert "fixtures/0.8.0.zip" in out
    assert "registry.txt pytest_nlam_compat tests\n" in out
    assert "-forecaster.predictor.encoding_grid_mlp.#.bias" in err
    assert "0.8.0.zip sha256:" in (
        project / "fixtures" / "registry.txt"
    ).read_text(encoding="utf-8")


def test_files_can_be_upgraded_to_it(project, tmp_path):
    archive = zipfile.ZipFile(project / "fixtures" / "0.7.0.zip")
    (tmp_path / "old.ckpt").write_bytes(
        archive.read("graph_lam/checkpoint.ckpt")
    )
    done = subprocess.run(
        [
            *(*command()[:-1], "upgrade", "old.ckpt"),
            *("--to", "0.8.0", "-o", "new.ckpt"),
        ],
        cwd=tmp_path,
        env=offline(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    saved = torch.load(tmp_path / "new.ckpt", weights_only=False)
    expected = zipfile.ZipFile(project / "fixtures" / "0.8.0.zip")
    recorded = torch.load(
        io.BytesIO(expected.read("graph_lam/checkpoint.ckpt")),
        weights_only=False,
    )
    assert [*saved["state_dict"]] == [*recorded["state_dict"]]
