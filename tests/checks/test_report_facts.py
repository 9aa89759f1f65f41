"""Which code was checked: its commit where it has one, its content always."""

import subprocess

import pytest
from packaging.version import Version

from pytest_nlam_compat.adapters.probe import CurrentCode
from pytest_nlam_compat.checks.report_facts import of_current_code, of_recording


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Run git in a new repository, as nobody in particular."""
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "a")
        monkeypatch.setenv(f"{name}_EMAIL", "a@example.org")

    def run(*arguments):
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    run("init", "-q")
    return run


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "neural_lam"
    folder.mkdir()
    (folder / "__init__.py").write_text("version = 1\n")
    return folder


def told(folder):
    current = CurrentCode("0.7.1.dev3", folder, Version("0.7.0"), "a marker")
    return of_current_code(current)


def test_clone_has_commit_and_tree_and_says_if_it_was_changed(git, package):
    git("add", ".")
    git("commit", "-qm", "First")
    found = told(package)
    assert found["commit"] == git("rev-parse", "HEAD")
    assert found["tree"] == git("rev-parse", "HEAD:neural_lam")
    assert "uncommitted changes" not in found

    (package / "new.py").write_text("pass\n")
    changed = told(package)
    assert changed["uncommitted changes"] == "yes"
    assert changed["commit"] == found["commit"]
    assert changed["content"] != found["content"]


def test_environment_within_another_clone_has_no_commit(git, package):
    git("commit", "-qm", "Of something else", "--allow-empty")
    assert not {"commit", "tree"} & told(package).keys()


def test_equal_content_is_equal_anywhere(package, tmp_path):
    copy = tmp_path / "elsewhere" / "neural_lam"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("version = 1\n")
    assert told(copy)["content"] == told(package)["content"]
    (copy / "__init__.py").write_text("version = 2\n")
    assert told(copy)["content"] != told(package)["content"]


@pytest.mark.parametrize(
    ("release", "case", "date"),
    [
        ("0.7.0", "graph_lam", "2026-11-22"),
        ("0.7.0", "graph_lam-deep", "2026-11-26"),  # added later
        ("0.1.0", "graph_lam", "2026-11-22"),
    ],
)
def test_each_reference_says_how_it_was_recorded(recorded, release, case, date):
    found = of_recording(recorded(release), case)
    assert found["date"] == date
    assert found["torch"] == "2.13.0+cpu"
    assert "cases" not in found
