"""From the grades of a commit to what git is told, and its environment."""

import os
import subprocess
import sys

import pytest
from histories import History

from pytest_nlam_compat.bisect.classify import (
    CommitGrades,
    classify,
    environment,
)
from pytest_nlam_compat.bisect.git import Clone

WANTED = ["outputs[0.7.0-a]", "loss[0.7.0-a]"]


def graded(passed=(), failed=(), broken=""):
    return CommitGrades(broken, "0.6.0", [*passed], {n: {} for n in failed})


@pytest.mark.parametrize(
    ("grades", "verdict"),
    [
        (graded(passed=WANTED), "good"),
        (graded(failed=WANTED[:1]), "bad"),
        (graded(passed=WANTED[1:], failed=WANTED[:1]), "bad"),
        (graded(passed=WANTED[:1]), "skip"),
        (graded(broken="it is broken"), "skip"),
        (graded(passed=WANTED[:1], broken="it is broken"), "skip"),
    ],
)
def test_a_verdict(grades, verdict):
    assert classify(grades, WANTED)[0] == verdict


def test_a_reason():
    assert classify(graded(broken="it is broken"), WANTED)[1] == "it is broken"
    reason = classify(graded(passed=WANTED[:1]), WANTED)[1]
    assert "1 of 2 checks" in reason
    assert "detected as 0.6.0" in reason


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "clone")


def test_the_worktree_comes_before_what_the_user_has_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"mine{os.pathsep}")
    tree = tmp_path / "tree"
    variables = environment(tree, tmp_path / "temporary", "0.7.0")
    _, *path = variables["PYTHONPATH"].split(os.pathsep)
    assert path == [str(tree), str(tmp_path / "mine")]


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
    commit = history.commit("Go on")
    found = Clone.at(history.folder).version(commit)
    code = "import importlib.metadata as m; print(m.version('neural-lam'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(history.folder, tmp_path / "temporary", found),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{version}\n"
