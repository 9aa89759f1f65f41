"""A release that old checkpoints need a migration for, and interruptions."""

import os
import signal
import subprocess

import pytest
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
    assert "migrations/history.py" in message
    assert content(project) == before
    # What it says to run says what to add.
    line = next(each for each in message.splitlines() if "suggest" in each)
    run = f"{line} --case graph_lam"
    found = subprocess.run(run, shell=True, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "encoding_grid_mlp" in found.stdout
    assert content(project) == before


def test_with_the_migration_it_goes_through(project):
    history = project / "pytest_nlam_compat" / "migrations" / "history.py"
    with history.open("a", encoding="utf-8") as file:
        file.write(STEP)
    environment = project / ".release" / "0.8.0" / "environment"
    built = (environment / "recipe.json").stat().st_mtime_ns
    running = start(project)
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert "fixtures/0.8.0.zip" in out
    assert "-forecaster.predictor.encoding_grid_mlp.#.bias" in err
    assert "0.8.0.zip sha256:" in (
        project / "fixtures" / "registry.txt"
    ).read_text(encoding="utf-8")
    assert (environment / "recipe.json").stat().st_mtime_ns == built
