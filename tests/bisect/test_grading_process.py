"""Why commits can't be checked; whatever happens, nothing is left running."""

import os
import signal
import subprocess
import sys
import time

import pytest
from histories import History

from pytest_nlam_compat.bisect.classify import CommitGrader
from pytest_nlam_compat.bisect.git import Clone
from pytest_nlam_compat.bisect.state_dir import BisectOptions, StateDir

pytestmark = pytest.mark.slow

INIT = "neural_lam/__init__.py"
# Its import starts a child, writes who that is, and goes on as it is told.
HANG = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
file = pathlib.Path(__file__).parents[2] / "child"
file.with_suffix(".part").write_text(str(child.pid))
file.with_suffix(".part").rename(file)
"""
GRADE = """
from pathlib import Path
from pytest_nlam_compat.bisect.classify import CommitGrader
from pytest_nlam_compat.bisect.git import Clone
from pytest_nlam_compat.bisect.state_dir import BisectOptions, StateDir
clone = Clone.at(Path("clone"))
commit = clone.git("rev-parse", "HEAD")
options = BisectOptions("", commit, "==0.7.0", "graph_lam", {timeout})
tree = StateDir(Path("state").absolute()).worktree(clone, commit)
print(CommitGrader(clone, tree, options).grade(commit).broken)
"""


def is_gone(pid):
    """Wait until a process is dead, or a zombie that nobody waits for."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def start(tmp_path):
    """Return a function that grades a neural_lam, in another process."""

    def grade(code, timeout):
        history = History(tmp_path / "clone")
        history.write("neural_lam/__init__.py", code)
        history.commit("Begin")
        return subprocess.Popen(
            [sys.executable, "-c", GRADE.format(timeout=timeout)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return grade


@pytest.fixture
def child(tmp_path):
    """Return a function that waits for the process that a commit starts."""

    def pid():
        file = tmp_path / "state" / "child"
        for _ in range(600):
            if file.exists():
                return int(file.read_text())
            time.sleep(0.1)
        raise AssertionError("No child was started.")

    return pid


def test_a_commit_that_hangs_is_killed_with_its_children(start, child):
    process = start(HANG + "time.sleep(99)", timeout=20)
    pid = child()
    out, _ = process.communicate(timeout=60)
    assert out == "it took longer than 20 s\n"
    assert is_gone(pid)


def test_children_do_not_outlive_the_checks(start, child):
    process = start(HANG + "import nowhere", timeout=90)
    out, _ = process.communicate(timeout=90)
    assert "nowhere" in out
    assert is_gone(child())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_search_that_is_ended(start, child, number):
    process = start(HANG + "time.sleep(99)", timeout=90)
    pid = child()
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert is_gone(pid)


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "clone")


@pytest.fixture
def grader(history, tmp_path):
    """Return a function that makes a grader of the last commit."""

    def make(timeout=120.0):
        clone = Clone.at(history.folder)
        commit = history.git("rev-parse", "HEAD")
        options = BisectOptions("", commit, "==0.7.0", "graph_lam", timeout)
        tree = StateDir(tmp_path / "state").worktree(clone, commit)
        return CommitGrader(clone, tree, options)

    return make


def reason(history, grader, code, **options):
    """Commit a neural_lam; return why it can't be checked."""
    history.write(INIT, code)
    history.commit("Begin")
    grader = grader(**options)
    grades = grader.grade(grader.options.bad)
    assert not grades.passed
    assert not grades.failed
    return grades.broken


def test_a_commit_without_neural_lam(history, grader):
    history.write("file", "")
    history.commit("Begin")
    grader = grader()
    grades = grader.grade(grader.options.bad)
    assert grades.broken == f"it has no {INIT}"


def test_an_import_that_fails(history, grader):
    found = reason(history, grader, "import nowhere")
    assert "its import fails" in found
    assert "ModuleNotFoundError: No module named 'nowhere'" in found


def test_a_conftest_that_fails(history, grader):
    history.write("conftest.py", "import nowhere")
    assert "No module named 'nowhere'" in reason(history, grader, "")


def test_a_conftest_of_tests_is_not_run(history, grader):
    history.write("tests/conftest.py", "import nowhere")
    found = reason(history, grader, "import missing")
    assert "No module named 'missing'" in found
    assert "nowhere" not in found


def test_a_script_that_exits(history, grader):
    assert "SystemExit" in reason(history, grader, "raise SystemExit(2)")


def test_a_crash(history, grader):
    found = reason(history, grader, "import os; os.abort()")
    assert "crashed: SIGABRT" in found


def test_a_process_that_ends(history, grader):
    found = reason(history, grader, "import os; os._exit(7)")
    assert "status 7" in found


def test_a_commit_that_hangs(history, grader):
    code = "import time; time.sleep(1000)"
    assert "longer than 5 s" in reason(history, grader, code, timeout=5.0)


def test_a_process_that_somebody_ends_says_nothing_about_the_commit(
    history, grader
):
    code = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(KeyboardInterrupt):
        reason(history, grader, code)


def test_what_the_checks_leave_is_removed(history, grader):
    history.write(".gitignore", "ignored")
    history.write("tracked", "old")
    code = (
        "for name in ('tracked', 'ignored', 'new'):\n"
        "    open(name, 'w').write('new')\n"
        "import nowhere"
    )
    assert "nowhere" in reason(history, grader, code)
    grader = grader()
    grader.check_out(grader.options.bad)
    assert grader.tree("status", "--porcelain", "--ignored") == ""


def test_options_of_the_commit_and_of_the_user_are_left_out(
    history, grader, monkeypatch
):
    history.write("pytest.ini", "[pytest]\naddopts = --no-such-option\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert "nowhere" in reason(history, grader, "import nowhere")
