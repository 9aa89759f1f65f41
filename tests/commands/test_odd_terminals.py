"""Commands whose terminal can't show what they print, and odd names."""

import json
import os
import subprocess
import sys

import pytest

from pytest_nlam_compat.cli import COMMANDS, main

# Each run takes seconds.
pytestmark = pytest.mark.slow

ODD = "lauf→\N{SNOWMAN}ü"

ARGUMENTS = {
    "bisect": ["--good", ODD, "--bad", ODD, "--clone", ODD],
    "check": [f"{ODD}.ckpt", "--graph", ODD],
    "fetch": ["--release", "==0.6.0", "--cache", ODD, "--offline"],
    "inspect": [f"{ODD}.ckpt"],
    "migration": ["new", ODD],
    "pin": [f"{ODD}.ckpt", "--datastore", f"{ODD}.yaml"],
    "record": [ODD],
    "release": [ODD],
    "report": [f"{ODD}.json", "-o", f"{ODD}.md"],
    "status": ["--clone", ODD],
    "stamp": [f"{ODD}.ckpt", "--statistics", f"{ODD}.json"],
    "statistics": ["--datastore", f"{ODD}.yaml", "-o", f"{ODD}.json"],
    "suggest": ["--case", ODD, "--release", ODD],
    "upgrade": [f"{ODD}.ckpt"],
    "verify": [f"{ODD}/x.zip"],
}
SLOW = {"statistics", "check"}


def run(folder, encoding, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest_nlam_compat", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def folder(reference_of, tmp_path):
    path = reference_of("0.6.0-graph_lam").write(tmp_path)
    path.rename(tmp_path / f"{ODD}.ckpt")
    return tmp_path


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in COMMANDS
    ],
)
def test_each_command_says_what_the_terminal_can_show(
    command, encoding, folder
):
    done = run(folder, encoding, command, *ARGUMENTS[command])
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2)
    said = (done.stdout + done.stderr).decode(encoding)
    assert "\\u2603" in said or command == "fetch"
    helped = run(folder, encoding, command, "--help")
    assert (helped.returncode, helped.stderr) == (0, b"")


def test_a_folder_of_odd_names(folder):
    done = run(folder, "ascii", "upgrade", ".")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"upgraded_lauf\\u2192" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="file names are text on Windows")
def test_a_name_that_is_no_text(folder):
    name = os.fsdecode(b"run\xff.ckpt")
    (folder / f"{ODD}.ckpt").rename(folder / name)
    done = run(folder, "utf-8", "upgrade", name)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"run\\udcff.ckpt was converted" in done.stdout


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_name_that_is_too_long(option, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    old = "x" * 248 + ".ckpt"
    (folder / f"{ODD}.ckpt").rename(old)
    options = [option] if option else []
    assert main(["upgrade", old, *options]) == 1
    out, err = capsys.readouterr()
    text = json.loads(out)["facts"]["cause"] if option else err
    assert "File name too long" in text
    assert os.path.exists(old)
    # The draft of a file has a name of its own, which is not too long.
    assert main(["upgrade", old, "-o", "y" * 255]) == 0
    assert os.path.exists("y" * 255)


@pytest.mark.parametrize("target", [".", "/", "sub/.."])
def test_a_graph_directory_without_a_name(target, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "sub").mkdir()
    before = sorted(folder.iterdir())
    arguments = ["--graph", "graph/1level", "--graph-out", target]
    assert main(["upgrade", f"{ODD}.ckpt", *arguments]) == 1
    assert "--graph-out" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
