"""Requests that can't be done, and files that are written all or not at all."""

import json
import sys
from pathlib import Path

import pytest
from listed_releases import NEWEST
from packaging.version import Version
from simulated import clone, content

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.releasing import add_release as releasing
from pytest_nlam_compat.releasing.add_release import ReleaseRequest, publish
from pytest_nlam_compat.releasing.environment import build


@pytest.fixture
def project(tmp_path):
    return clone(tmp_path / "project")


@pytest.mark.parametrize(
    ("release", "what"),
    [
        (NEWEST, f"neural-lam {NEWEST} is recorded already."),
        ("0.6.1", "neural-lam 0.6.1 is older than the newest release"),
        ("99.0rc1", "99.0rc1 is not a release that stays."),
    ],
)
def test_releases_that_cannot_be_added(project, capsys, release, what):
    before = content(project)
    assert main(["release", release, "--root", str(project)]) == 1
    assert capsys.readouterr().err.startswith(what)
    assert content(project) == before
    assert not (project / ".release").exists()


def test_another_folder_than_a_clone(tmp_path, capsys):
    options = ["--root", str(tmp_path), "--json"]
    assert main(["release", "99.0", *options]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "is not the top of a clone" in found["problem"]


def test_an_archive_that_nothing_lists_is_not_overwritten(project, capsys):
    (project / "fixtures" / "99.0.zip").write_bytes(b"mine")
    assert main(["release", "99.0", "--root", str(project)]) == 1
    assert "is recorded already" in capsys.readouterr().err
    assert (project / "fixtures" / "99.0.zip").read_bytes() == b"mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--neural-lam", "./no-such-file.whl"], "pip failed"),
        (["--neural-lam", "no_such_neural_lam"], "pip failed"),
    ],
)
def test_what_pip_cannot_install(project, capsys, monkeypatch, arguments, what):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    before = content(project)
    options = ["--root", str(project), *arguments]
    assert main(["release", "99.0", *options]) == 1
    err = capsys.readouterr().err
    assert what in err
    assert "no" in err
    assert "--neural-lam" in err
    assert content(project) == before


@pytest.fixture
def staged(project):
    """Have new files for each that a release writes."""
    request = ReleaseRequest(Version("99.0"), project, "neural-lam==99.0")
    originals = {}
    for file in request.files:
        target = project / file
        found = registry.sha256_of(target) if target.is_file() else None
        originals[file] = found
        (request.project / file).parent.mkdir(parents=True, exist_ok=True)
        (request.project / file).write_text(f"new {file}")
    return request, originals


def test_all_are_written(staged):
    request, originals = staged
    publish(request, originals)
    for file in request.files:
        assert (request.root / file).read_text() == f"new {file}"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("at", range(6))
def test_if_one_cannot_be_written_none_is(staged, monkeypatch, at, error):
    request, originals = staged
    before = content(request.root)
    draft, drafts = releasing.draft, []

    def failing(target, overwrite):
        drafts.append(target)
        if len(drafts) > at:
            raise error
        return draft(target, overwrite)

    monkeypatch.setattr(releasing, "draft", failing)
    with pytest.raises(error):
        publish(request, originals)
    assert content(request.root) == before


@pytest.mark.parametrize("name", ["CHANGELOG.md", "fixtures/registry.txt"])
def test_a_file_that_somebody_has_changed_meanwhile(staged, name):
    request, originals = staged
    (request.root / name).write_text("mine")
    before = content(request.root)
    with pytest.raises(CompatError, match="has changed meanwhile"):
        publish(request, originals)
    assert content(request.root) == before


@pytest.mark.slow
def test_an_environment_has_what_is_here(tmp_path, monkeypatch):
    package = tmp_path / "nothing"
    package.mkdir()
    (package / "nothing.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(package)])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    # It is there, so that nothing is installed.
    python = build(tmp_path / "environment", "packaging", None)
    assert python.is_file()
    below = next((tmp_path / "environment").rglob("below.pth"))
    assert str(package) in below.read_text().splitlines()
    assert Path(sys.prefix) not in Path(below).parents
