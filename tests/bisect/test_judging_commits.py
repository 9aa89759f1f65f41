"""From what the checks said to what git is told."""

import os
import subprocess
import sys

import pytest
from histories import History

from pytest_nlam_compat.bisect.environment import environment
from pytest_nlam_compat.bisect.git import Git
from pytest_nlam_compat.bisect.judging import (
    Examined,
    Verdict,
    examine,
    judge,
)
from pytest_nlam_compat.bisect.state_dir import Asked, Place

WANTED = ["test_outputs[0.7.0-a]", "test_loss[0.7.0-a]"]
ASKED = Asked("g", "b", "==0.7.0", "graph_lam")


def examined(broken="", offered=WANTED, failed=()):
    properties = {name: {} for name in failed}
    return Examined(broken, "0.6.0", list(offered), properties)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (examined(), Verdict("good")),
        (examined(failed=WANTED[:1]), Verdict("bad")),
        (examined(offered=WANTED[:1], failed=WANTED[:1]), Verdict("bad")),
        (
            examined(offered=WANTED[:1]),
            Verdict(
                "skip",
                "1 of 2 checks can't be made: the code was taken for 0.6.0",
            ),
        ),
        (examined(broken="it is"), Verdict("skip", "it is")),
    ],
)
def test_a_verdict(found, verdict):
    assert judge(found, WANTED) == verdict


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "clone")


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "place")
    place.begin(ASKED)
    return place


def broken(history, place):
    found = examine(Git(history.folder, alone=True), place, ASKED, None)
    assert not found.offered
    return found.broken


def test_a_commit_without_neural_lam(history, place):
    history.write("file", "")
    history.commit("Begin")
    assert broken(history, place) == "it has no neural_lam/__init__.py"


def test_an_import_that_fails(history, place):
    history.write("neural_lam/__init__.py", "import nowhere")
    history.commit("Begin")
    assert broken(history, place) == (
        "neural_lam is installed but its import fails. "
        "ModuleNotFoundError: No module named 'nowhere'"
    )


def test_a_crash(history, place):
    history.write("neural_lam/__init__.py", "import os; os.abort()")
    history.commit("Begin")
    assert broken(history, place) == "the checks crashed: SIGABRT"


def test_a_process_that_ends(history, place):
    history.write("neural_lam/__init__.py", "import os; os._exit(7)")
    history.commit("Begin")
    assert broken(history, place) == "the checks ended with status 7: -"


def test_a_process_that_somebody_ends_says_nothing_of_the_commit(
    history, place
):
    history.write(
        "neural_lam/__init__.py", "import os; os.kill(os.getpid(), 9)"
    )
    history.commit("Begin")
    with pytest.raises(KeyboardInterrupt):
        broken(history, place)


def test_what_the_checks_leave_is_removed(history, place):
    history.write(".gitignore", "ignored")
    history.write("tracked", "old")
    history.write(
        "neural_lam/__init__.py",
        "for name in ('tracked', 'ignored', 'new'):\n"
        "    open(name, 'w').write('new')\n"
        "import nowhere",
    )
    history.commit("Begin")
    assert "nowhere" in broken(history, place)
    assert history.git("status", "--porcelain", "--ignored") == ""


def test_options_of_the_commit_and_of_the_user_are_left_out(
    history, place, monkeypatch
):
    history.write("neural_lam/__init__.py", "import nowhere")
    history.write("pytest.ini", "[pytest]\naddopts = --no-such-option\n")
    history.commit("Begin")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert "nowhere" in broken(history, place)


def test_the_worktree_comes_before_what_the_user_has_set(
    history, tmp_path, monkeypatch
):
    history.write("neural_lam/__init__.py", "")
    history.commit("Begin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"mine{os.pathsep}")
    variables = environment(Git(history.folder), tmp_path / "temporary")
    _, *path = variables["PYTHONPATH"].split(os.pathsep)
    assert path == [str(history.folder), str(tmp_path / "mine")]


@pytest.mark.parametrize(
    ("tags", "version"),
    [([], "0"), (["v0.6.0"], "0.6.0"), (["v0.6.0", "other"], "0.6.0")],
)
def test_metadata_are_those_of_the_commit(history, tmp_path, tags, version):
    history.write("file", "")
    history.commit("Begin")
    for tag in tags:
        history.git("tag", tag)
    history.write("file", "1")
    history.commit("Go on")
    code = "import importlib.metadata as m; print(m.version('neural-lam'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(Git(history.folder), tmp_path / "temporary"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{version}\n"
