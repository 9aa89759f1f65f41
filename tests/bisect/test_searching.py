"""git bisect itself, with a judge that takes no time."""

import sys

import pytest
from histories import History

from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.git import Git
from pytest_nlam_compat.bisect.searching import INTERRUPTED, Outcome, search
from pytest_nlam_compat.bisect.worktree import worktree
from pytest_nlam_compat.errors import CompatError

# It does as the file says that is checked out.
JUDGE = (
    sys.executable,
    "-c",
    "import pathlib, sys\n"
    "status = int(pathlib.Path('status').read_text())\n"
    "print('not for the user')\n"
    "print(f'nlam-compat: status {status}')\n"
    "sys.exit(status)",
)


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path / "clone")
    history.write("status", "0")
    history.commit("Begin")
    return history


def line(history, *statuses):
    """Commit each status, after the good commit."""
    for number, status in enumerate(statuses, 1):
        history.write("status", str(status))
        history.write("number", str(number))
        history.commit(str(number))


def searched(history, folder, good="Begin"):
    lines = []
    commits, bad = history.commits, history.git("rev-parse", "HEAD")
    before = history.everything()
    clone = Clone.at(history.folder)
    with worktree(clone, folder / "tree", bad) as tree:
        outcome = search(tree, commits[good], bad, JUDGE, lines.append)
    assert history.everything() == before
    assert not (folder / "tree").exists()
    return outcome, lines


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_the_first_that_is_bad(history, tmp_path, first):
    line(history, *[0] * (first - 1), *[1] * (6 - first))
    outcome, lines = searched(history, tmp_path)
    assert outcome == Outcome(history.commits[str(first)])
    assert set(lines) <= {"status 0", "status 1"}


def test_neighbours_need_no_judge(history, tmp_path):
    line(history, 1)
    outcome, lines = searched(history, tmp_path)
    assert outcome == Outcome(history.commits["1"])
    assert lines == []


def test_what_can_not_be_judged_is_gone_around(history, tmp_path):
    line(history, 0, 0, 125, 0, 1, 1)
    outcome, _ = searched(history, tmp_path)
    assert outcome == Outcome(history.commits["5"])


def test_all_that_it_can_be(history, tmp_path):
    line(history, 0, 125, 125, 1)
    outcome, _ = searched(history, tmp_path)
    commits = history.commits
    assert outcome.first is None
    assert sorted(outcome.possible) == sorted(commits[n] for n in "234")


def test_a_merge_of_two_that_are_good(history, tmp_path):
    history.git("checkout", "-q", "-b", "side")
    history.write("side", "")
    history.commit("Side")
    history.git("checkout", "-q", "main")
    line(history, 0)
    history.merge("side", "Merge", commit=False)
    history.write("status", "1")
    history.commit("Merge")
    outcome, _ = searched(history, tmp_path)
    assert outcome == Outcome(history.commits["Merge"])


def test_a_judge_that_is_interrupted(history, tmp_path):
    line(history, 0, INTERRUPTED, 1)
    with pytest.raises(KeyboardInterrupt):
        searched(history, tmp_path)
    assert history.git("worktree", "list").count("\n") == 0


def test_git_says_why_it_fails(history, tmp_path):
    line(history, 0, 129, 1)
    with pytest.raises(CompatError) as raised:
        searched(history, tmp_path)
    text = str(raised.value).splitlines()
    assert text[0] == "git bisect run failed."
    assert "exit code 129" in text[2]
    assert text[3] == (
        "Mend that and run it again; commits that were judged are not judged "
        "again."
    )


def test_a_worktree_that_a_killed_process_left(history, tmp_path):
    line(history, 0, 1, 1)
    folder = tmp_path / "tree"
    history.git("worktree", "add", "--detach", str(folder))
    history.git("worktree", "lock", str(folder))
    (folder / ".git").unlink()
    with worktree(Clone.at(history.folder), folder, "HEAD") as tree:
        assert tree("status", "--porcelain") == ""
    assert history.git("worktree", "list").count("\n") == 0


def test_worktrees_of_the_user_are_left(history, tmp_path):
    mine = tmp_path / "mine"
    history.git("worktree", "add", "--detach", str(mine))
    # As on a disk that is not there just now.
    mine.rename(tmp_path / "away")
    with worktree(Clone.at(history.folder), tmp_path / "tree", "HEAD"):
        pass
    assert str(mine) in history.git("worktree", "list")


def test_a_folder_without_a_worktree_is_no_other_repository(history):
    below = history.folder / "below"
    below.mkdir()
    with pytest.raises(CompatError) as raised:
        Git(below, alone=True)("clean", "-ffdxq")
    assert "not a git repository" in raised.value.facts["git says"]


def test_hooks_of_the_user_are_not_run(history, tmp_path):
    hook = history.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    history.git("checkout", "-q", "--detach")
    (history.folder / "ran").unlink()
    line(history, 0, 1, 1)
    with worktree(Clone.at(history.folder), tmp_path / "t", "HEAD") as tree:
        search(tree, history.commits["Begin"], "HEAD", JUDGE, print)
        assert not (tree.folder / "ran").exists()
