import os
import pty
import subprocess
import sys
import time

import pytest

SHOW = """
import sys
from pytest_nlam_compat.reports.terminal import coloured
text = "file: x\\n  nlam-compat check x\\na  refused (1)"
print(coloured(text, sys.stdout))
"""
WAIT = """
import time
from pytest_nlam_compat.reports.terminal import progress
with progress("Reading") as say:
    time.sleep(1.3)
    say("Writing")
    time.sleep(1)
print("done")
"""


def on_terminal(code, **environment):
    """Run code with a terminal for its output; return what it shows."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # how Linux says that the other end is closed
        pass
    assert child.wait() == 0
    os.close(ours)
    return shown.decode()


def test_colours_on_a_terminal():
    assert on_terminal(SHOW, NO_COLOR="") == (
        "\x1b[1mfile:\x1b[0m x\r\n"
        "\x1b[36m  nlam-compat check x\x1b[0m\r\n"
        "a  \x1b[31mrefused\x1b[0m (1)\r\n"
    )


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_none_are_wanted(variable):
    assert "\x1b" not in on_terminal(SHOW, **variable)


def test_no_colours_in_a_pipe():
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, check=True
    )
    assert done.stdout == "file: x\n  nlam-compat check x\na  refused (1)\n"


def test_progress_of_what_takes_longer_than_a_second():
    shown = on_terminal(WAIT, NO_COLOR="")
    assert "\r\x1b[KReading, 1 s" in shown
    assert "\r\x1b[KWriting, 2 s" in shown
    assert shown.endswith("\r\x1b[Kdone\r\n")


def test_no_progress_in_a_pipe_or_within_a_second():
    done = subprocess.run(
        [sys.executable, "-c", WAIT], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
    start = time.monotonic()
    quick = WAIT.replace("1.3", "0").replace("sleep(1)", "sleep(0)")
    assert "Reading" not in on_terminal(quick)
    assert time.monotonic() - start < 5
