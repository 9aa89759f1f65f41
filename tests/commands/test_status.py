"""``nlam-compat status``: what it prints, and its exit status."""

import json
import subprocess

import pytest
from listed_releases import RELEASES

from pytest_nlam_compat.cli import main


@pytest.fixture
def clone(tmp_path):
    """Have a clone of neural-lam with tags."""

    def git(*arguments):
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True
        )

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "First")

    def tag(*releases):
        for release in releases:
            git("tag", f"v{release}")
        return ["status", "--clone", str(tmp_path)]

    return tag


def test_all_have_references(clone, capsys, tmp_path):
    assert main(clone(*RELEASES)) == 0
    assert capsys.readouterr().out == (
        f"references of all {len(RELEASES)} releases of neural-lam that "
        f"{tmp_path} lists\n"
    )


def test_some_have_none(clone, capsys):
    assert main(clone(*RELEASES, "98.0.0", "99.1.0")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "no references of neural-lam 98.0.0, 99.1.0"
    assert lines[-2:] == [
        "  nlam-compat release 98.0.0",
        "  nlam-compat release 99.1.0",
    ]


def test_as_json(clone, capsys):
    assert main([*clone("0.6.0", "99.0.0"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {"recorded": RELEASES, "lacking": ["99.0.0"]}


def test_an_error_as_json(tmp_path, capsys):
    assert main(["status", "--json", "--clone", str(tmp_path / "none")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["problem"] == "The releases of neural-lam can't be listed."
