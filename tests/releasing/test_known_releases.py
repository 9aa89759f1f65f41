"""Which releases exist, by the tags of a clone and by pip."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.releasing.known_releases import on_index, tagged


def git(folder, *arguments):
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True
    )


@pytest.fixture
def upstream(tmp_path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "First")
    return tmp_path


def test_tags_of_releases(upstream):
    for tag in ("v0.10.0", "v0.9.0", "0.8.0", "v0.11.0rc1", "v0.12.dev1", "x"):
        git(upstream, "tag", tag)
    assert [str(each) for each in tagged(upstream)] == [
        "0.8.0",
        "0.9.0",
        "0.10.0",
    ]


def test_a_clone_without_tags(upstream):
    with pytest.raises(CompatError, match="has no tags of releases"):
        tagged(upstream)


def test_no_clone(tmp_path):
    with pytest.raises(CompatError, match="can't be listed") as raised:
        tagged(tmp_path / "missing")
    assert "missing" in raised.value.facts["command"]
    assert "--clone" in raised.value.remedy


def script(folder, text, monkeypatch):
    """Have a Python whose pip is this text."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_what_pip_lists(tmp_path, monkeypatch):
    listing = "neural-lam (0.8.0)\nAvailable versions: 0.8.0, 0.8.0rc1, 0.7.0"
    script(tmp_path, f"echo '{listing}'", monkeypatch)
    assert on_index() == [Version("0.7.0"), Version("0.8.0")]


@pytest.mark.parametrize(
    "text", ["echo 'No module named pip' >&2; exit 1", "echo something"]
)
def test_a_pip_that_lists_nothing(tmp_path, monkeypatch, text):
    script(tmp_path, text, monkeypatch)
    with pytest.raises(CompatError, match="can't be listed") as raised:
        on_index()
    assert "--clone" in raised.value.remedy


def test_no_python(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(Path(tmp_path / "none")))
    with pytest.raises(CompatError, match="can't be listed"):
        on_index()
