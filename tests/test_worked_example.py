"""The worked example of docs/migrations.md, done as it says, from top to end.

Each block of the document that follows a comment is taken: an edit of
neural-lam, a file to write, a command with the status it ends with. Lines of
a command's output are met in order; ``...`` stands for any others.
"""

import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from nlam_runs import run

DOCUMENT = Path(__file__).parents[1] / "docs" / "migrations.md"
BLOCK = re.compile(
    r"^<!-- (edit|file|run)(?:: ([^\n]+?))? -->\n```\w+\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
pytestmark = pytest.mark.neural_lam


def blocks():
    text = DOCUMENT.read_text(encoding="utf-8")
    return [match.groups() for match in BLOCK.finditer(text)]


def edits(diff):
    """Read the places of a diff as (file, old, new)."""
    header, *hunks = re.split(r"^@@\n", diff, flags=re.MULTILINE)
    file = header.removeprefix("--- neural_lam/").strip()
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        yield file, old, new


def shell(project, command, *arguments):
    """Run a command of ours as a user does."""
    script = Path(sys.executable).with_name(command)
    result = subprocess.run(
        [script, *arguments],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(project.path[0])},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout.splitlines()


def told(project, command):
    name, *arguments = command.split()
    if name != "pytest":
        return shell(project, name, *arguments)
    # As a user does: without what shows each check.
    result = run(arguments, project.folder, project.path)
    return int(result.ret), result.outlines


def insist(output, expected):
    """Insist that a command's output goes as the document says."""
    left = iter(output)
    anything = False
    for line in expected:
        if line == "...":
            anything = True
            continue
        pattern = re.sub(r"([\[*?])", r"[\1]", line).replace("...", "*")
        for found in left:
            if fnmatchcase(found.rstrip(), pattern):
                break
            assert anything, f"{found!r} is not {line!r}"
        else:
            raise AssertionError(f"nothing is {line!r}")
        anything = False
    assert anything or not list(left)


def test_the_document_has_the_blocks_of_the_example():
    assert [kind for kind, *_ in blocks()] == [
        *("edit", "run", "run", "file", "file", "run", "file", "run"),
        *("file", "run"),
    ]


@pytest.mark.slow
def test_the_example_goes_as_it_says(project):
    (project.folder / "pytest.ini").unlink()
    project.write("pyproject.toml", "[tool.pytest.ini_options]\n")
    for kind, argument, content in blocks():
        if kind == "edit":
            project.neural_lam(*edits(content))
        elif kind == "file":
            project.write(argument, content)
        else:
            command, *expected = content.splitlines()
            status, output = told(project, command.removeprefix("$ "))
            print(command, *output, sep="\n")
            assert status == int(argument), command
            insist(output, expected)


def test_the_table_of_steps_is_the_history():
    from pytest_nlam_compat.migrations import HISTORY

    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.split("## The history\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \| .+ \| (.+) \|$", section, re.MULTILINE)
    assert [name for name, _ in rows] == [step.id for step in HISTORY]
    for (_, source), step in zip(rows, HISTORY, strict=True):
        assert source in step.reason or source == step.since


def test_every_operation_is_in_the_document():
    from pytest_nlam_compat.migrations.operations import __all__ as operations

    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.split("## Operations\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)[`(]", section))
    assert set(operations) - {"Operation"} <= named
