"""Files that are written whole or not at all, whoever else writes there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.drafts import draft, remove_abandoned, reserved

WRITING = """
import os, signal, sys
from pathlib import Path
from pytest_nlam_compat.files.drafts import draft, reserved
target = Path(sys.argv[1])
with draft(target, False) as stream, reserved(target, is_folder=True) as folder:
    (folder / "a.pt").touch()
    stream.write(bytes(9_000_000))
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writing(tmp_path):
    """A process in the midst of writing to a target."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(tmp_path / "target")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"here\n"
        yield process
        process.kill()


def parts(folder: Path) -> int:
    return len(list(folder.glob(".*.part")))


def test_what_a_killed_process_leaves_is_removed(writing, tmp_path):
    target = tmp_path / "target"
    others = [".target.12345678.part.ckpt", ".target.part", ".other.1a2b.part"]
    for name in others:
        (tmp_path / name).write_text("mine")
    remove_abandoned(target)
    # Not while it lives.
    assert parts(tmp_path) == 2 + 2
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    with draft(target, overwrite=False) as stream:
        stream.write(b"new")
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"target", *others}


def test_of_two_writers_the_second_is_refused(tmp_path):
    target = tmp_path / "target"

    def both() -> None:
        with draft(target, overwrite=False) as second:
            second.write(b"second")
            with draft(target, overwrite=False) as first:
                first.write(b"first")

    with pytest.raises(CompatError, match="exists already"):
        both()
    assert target.read_bytes() == b"first"
    assert parts(tmp_path) == 0


def test_a_file_that_comes_at_the_last_moment_stays(tmp_path, monkeypatch):
    target, link = tmp_path / "target", os.link

    def late(source, name):
        target.write_bytes(b"theirs")
        link(source, name)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(CompatError, match="exists already"):
        with draft(target, overwrite=False) as stream:
            stream.write(b"ours")
    assert target.read_bytes() == b"theirs"


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(source, name):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "target"
    with draft(target, overwrite=False) as stream:
        stream.write(b"new")
    assert target.read_bytes() == b"new"
    assert parts(tmp_path) == 0


def test_a_link_to_nothing_leads_nowhere(tmp_path):
    target = tmp_path / "target"
    target.symlink_to("elsewhere")
    with pytest.raises(CompatError, match="exists already"):
        with draft(target, overwrite=False):
            pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_is_removed_unless_it_got_another_name(tmp_path):
    target = tmp_path / "below" / "target"
    with reserved(target, is_folder=True) as part:
        (part / "a.pt").touch()
    assert parts(target.parent) == 0
    with reserved(target, is_folder=True) as part:
        part.rename(target)
    assert target.is_dir()
