"""The private repository, and what keeps searches apart."""

import os
import subprocess

import pytest
from bisections import BAD, GOOD

from pytest_nlam_compat.bisect.git import Clone, Git
from pytest_nlam_compat.bisect.state_dir import StateDir
from pytest_nlam_compat.errors import CompatError


def test_a_worktree_has_the_commit_and_borrows_the_rest(bisected):
    bisected.line(GOOD, BAD)
    before = bisected.history.everything()
    commit = bisected.history.commits["1"]
    tree = bisected.state_dir.worktree(bisected.clone, commit)
    assert tree("rev-parse", "HEAD") == commit
    assert tree("status", "--porcelain") == ""
    assert tree("count-objects") == "0 objects, 0 kilobytes"
    assert bisected.history.everything() == before


def test_a_shallow_clone(bisected, tmp_path):
    bisected.line(GOOD, GOOD, BAD)
    shallow = tmp_path / "shallow"
    source = f"file://{bisected.history.folder}"
    bisected.history.git("clone", "-q", "--depth=3", source, str(shallow))
    bisected.history.folder = shallow
    outcome = bisected.find("1")
    assert outcome.candidates == (bisected.history.commits["3"],)


def test_a_partial_clone(bisected, tmp_path):
    bisected.line(GOOD, GOOD, BAD)
    partial, history = tmp_path / "partial", bisected.history
    history.git("config", "uploadpack.allowFilter", "true")
    options = ("--filter=blob:none", "--no-checkout")
    source = f"file://{history.folder}"
    history.git("clone", "-q", *options, source, str(partial))
    history.folder = partial
    # Which also finds that nothing is fetched into it.
    outcome = bisected.find()
    assert outcome.candidates == (history.commits["3"],)
    good, bad = history.commits["Begin"], history.commits["3"]
    before = history.everything()
    assert bisected.command("--good", good, "--bad", bad) == 0
    assert history.everything() == before


def test_a_linked_worktree_of_the_clone(bisected, tmp_path):
    bisected.line(GOOD, BAD)
    linked = tmp_path / "linked"
    bisected.history.git("worktree", "add", "--detach", str(linked))
    assert Clone.at(linked).repository == bisected.clone.repository
    assert StateDir.of(Clone.at(linked)) == bisected.state_dir


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """Return a file that would be written by any hook of git."""
    ran = tmp_path / "ran"
    folder = tmp_path / "hooks"
    folder.mkdir()
    for name in (
        "post-checkout",
        "post-index-change",
        "pre-auto-gc",
        "reference-transaction",
    ):
        hook = folder / name
        hook.write_text(f"#!/bin/sh\necho {name} >> '{ran}'\n")
        hook.chmod(0o755)
    configuration = tmp_path / "configuration"
    template = tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    for hook in folder.iterdir():
        (template / "hooks" / hook.name).symlink_to(hook)
    configuration.write_text(
        f"[core]\n\thooksPath = {folder}\n[init]\n\ttemplateDir = {template}\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    return ran


def test_no_hooks_are_run(bisected, hooks):
    bisected.line(GOOD, BAD, BAD)
    command = ["git", "-C", str(bisected.history.folder), "checkout", "-q", "@"]
    subprocess.run(command, check=True)
    assert "post-checkout" in hooks.read_text()
    hooks.unlink()
    bisected.find()
    assert not hooks.exists()


def test_configuration_of_the_environment_is_kept(bisected, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "nlam.compat")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "mine")
    git = Git(bisected.history.folder)
    assert git("config", "nlam.compat") == "mine"
    assert git("config", "core.hooksPath") == os.devnull


def test_a_folder_without_a_repository_is_no_other_one(bisected):
    below = bisected.history.folder / "below"
    below.mkdir()
    with pytest.raises(CompatError) as raised:
        Git(below, private=True)("clean", "-ffdxq")
    assert "not a git repository" in raised.value.facts["git says"]


def test_one_search_at_a_time(bisected):
    bisected.line(BAD)
    with bisected.state_dir.locked():
        with pytest.raises(CompatError, match="is running") as raised:
            bisected.find()
    assert raised.value.facts["lock"] == f"{bisected.state_dir.folder}.lock"


def test_a_cache_that_can_not_be_written(bisected, tmp_path):
    bisected.line(BAD)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CompatError, match="can't be stored") as raised:
        bisected.find()
    assert raised.value.facts["folder"] == tmp_path / "cache" / "bisect"
    assert "NLAM_COMPAT_CACHE" in raised.value.remedy


def test_reset_discards_it(bisected, capsys):
    bisected.line(GOOD, BAD, BAD)
    bisected.interrupted("1")
    assert bisected.state_dir.folder.exists()
    assert bisected.command("--reset") == 0
    assert not bisected.state_dir.folder.exists()
    assert "Discarded." in capsys.readouterr().out
    assert bisected.command("--reset") == 0
    assert "nothing to discard" in capsys.readouterr().out
