"""What ``nlam-compat bisect`` says of wrong arguments."""

import pytest
from bisections import BAD, GOOD, Bisected

from pytest_nlam_compat.cli import main

NAME_A_CLONE = "or name one with --clone"


@pytest.fixture
def bisected(tmp_path, monkeypatch):
    monkeypatch.setenv("NLAM_COMPAT_CACHE", str(tmp_path / "cache"))
    bisected = Bisected(tmp_path / "clone")
    monkeypatch.chdir(bisected.history.folder)
    return bisected


@pytest.fixture
def error(capsys):
    """Return a function that returns the lines of an error."""

    def run(*arguments):
        assert main(["bisect", *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    return run


def test_both_commits_are_needed(bisected, error):
    lines = error("--good", "main")
    assert "two commits" in lines[0]
    assert lines[1] == "  expected: --good REV and --bad REV"


@pytest.mark.parametrize(
    "revision", ["nowhere", "", "--all", "main:neural_lam"]
)
def test_a_revision_that_is_none(bisected, error, revision):
    lines = error(f"--good={revision}", "--bad=main")
    assert lines[0] == f"There is no commit {revision!r}."
    assert lines[1:3] == [
        "  option: --good",
        f"  repository: {bisected.history.folder / '.git'}",
    ]
    assert "git fetch --tags" in lines[3]


def test_a_repository_of_something_else(bisected, error):
    history = bisected.history
    bisected.line(GOOD)
    history.git("rm", "-rq", "neural_lam")
    history.commit("End")
    what, commit, expected, remedy = error("--good", "main~1", "--bad", "main")
    assert what == "--bad is not a commit of neural-lam."
    assert commit == f"  commit: {history.title('End')}"
    assert "neural_lam/__init__.py at the root" in expected
    assert str(history.folder / ".git") in expected
    assert NAME_A_CLONE in remedy


@pytest.mark.parametrize(
    ("good", "bad", "what"),
    [
        ("main", "main~1", "--good is not in the history of --bad."),
        ("main", "main", "--good and --bad are the same commit."),
    ],
)
def test_commits_with_nothing_between(bisected, error, good, bad, what):
    bisected.line(BAD)
    titles = {
        "main": bisected.history.title("1"),
        "main~1": bisected.history.title("Begin"),
    }
    lines = error("--good", good, "--bad", bad)
    assert lines[:3] == [
        what,
        f"  --good: {titles[good]}",
        f"  --bad: {titles[bad]}",
    ]
    assert "git merge-base GOOD BAD" in lines[3]


def test_no_repository(bisected, tmp_path, error):
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, tmp_path):
        lines = error("--clone", folder, "--good", "a", "--bad", "b")
        assert lines[0] == "There is no git repository."
        assert lines[1] == f"  looked in: {folder}"
        assert NAME_A_CLONE in lines[2]


def test_no_git(bisected, error, monkeypatch):
    monkeypatch.setenv("PATH", "")
    lines = error("--good", "main", "--bad", "main")
    assert lines[0] == "git is not installed."


def test_a_clone_elsewhere_and_its_worktrees(bisected, tmp_path, error):
    linked = tmp_path / "linked"
    folder = bisected.history.folder
    bisected.history.git("worktree", "add", "--detach", str(linked))
    for clone in (folder, linked, folder / "neural_lam"):
        lines = error("--clone", clone, "--good", "main", "--bad", "nowhere")
        assert lines[2] == f"  repository: {folder / '.git'}"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_number_of_seconds(bisected, capsys, seconds):
    assert main(["bisect", f"--timeout={seconds}"]) == 2
    assert "--timeout" in capsys.readouterr().err
