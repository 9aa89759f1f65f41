"""The failure that the README shows is what a run prints, all of it."""

import re
from pathlib import Path

import pytest
from nlam_runs import run
from test_worked_example import BLOCK, edits, insist

README = Path(__file__).parents[1] / "README.md"
NUMBER = re.compile(r"\d+(\.\d+)*(e[-+]\d+)?")
# Of the machine.
PLACES = (
    "platform ",
    "nlam-compat: ",
    "rootdir: ",
    "configfile: ",
    "plugins: ",
)


def lines(output):
    """Return lines without what differs between machines."""
    found = [NUMBER.sub("#", line.rstrip()) for line in output]
    return [
        re.sub(r"=+ (# failed.*?) =+", r"\1", re.sub(r" \(#:#:#\)", "", line))
        for line in found
        if not line.startswith(PLACES)
    ]


@pytest.mark.neural_lam
@pytest.mark.slow
def test_the_red_run_is_the_real_one(project):
    text = README.read_text(encoding="utf-8")
    (_, _, diff), (_, status, console) = BLOCK.findall(text)
    command, *expected = console.splitlines()
    project.neural_lam(*edits(diff))
    result = run(
        command.removeprefix("$ pytest ").split(),
        project.folder,
        project.path,
        {"COLUMNS": "100"},
    )
    assert int(result.ret) == int(status)
    insist(lines(result.outlines), lines(expected))
    # One screen.
    assert len(result.outlines) <= 60
