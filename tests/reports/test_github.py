"""Annotations of lines, and the summary of a step."""

import pytest
from made_results import CAUSE, red, results

from pytest_nlam_compat.reports.github import (
    SUMMARY_BYTES,
    append_summary,
    commands,
)


@pytest.fixture
def clone(tmp_path):
    """Make a clone of neural-lam with one file of five lines."""
    file = tmp_path / "clone" / "neural_lam" / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text("pass\n" * 5)
    return file.parent


def annotated(clone, workspace, source="neural_lam/a.py:3", **changes):
    cause = {**CAUSE, "source": source, **changes}
    found = red(causes=[cause])
    found["current"]["path"] = str(clone)
    (command,) = commands(found, workspace)
    return command


@pytest.mark.parametrize(
    "source",
    [
        "neural_lam/a.py:3",
        "neural_lam/a.py:3, neural_lam/b.py:7",
        "{clone}/a.py:3, in forward",
    ],
)
def test_line_is_relative_to_the_workspace(clone, tmp_path, source):
    command = annotated(clone, tmp_path, source.format(clone=clone))
    assert command == (
        "::error file=clone/neural_lam/a.py,line=3,title=nlam-compat::"
        "LayerNorm gives different outputs, 1 reference%0A"
        "in 0.7.0-hi_lam%0Achecks: test_outputs"
    )
    assert annotated(clone, clone.parent).startswith(
        "::error file=neural_lam/a.py,line=3,"
    )


@pytest.mark.parametrize(
    "source",
    ["", "torch.nn", "neural_lam/gone.py:3", "../../etc/passwd:1", "a.py:x"],
)
def test_what_is_no_file_of_the_workspace_has_no_line(clone, tmp_path, source):
    command = annotated(clone, tmp_path, source)
    assert command.startswith("::error title=nlam-compat::LayerNorm")


def test_file_outside_of_the_workspace_has_no_line(clone, tmp_path):
    workspace = tmp_path / "elsewhere"
    workspace.mkdir()
    assert annotated(clone, workspace).startswith("::error title=")
    # Nor does a link lead out of it.
    (workspace / "neural_lam").symlink_to(clone)
    command = annotated(workspace / "neural_lam", workspace)
    assert command.startswith("::error title=")


def test_values_can_begin_no_other_command(clone, tmp_path):
    command = annotated(clone, tmp_path, text="100 %\r\n::warning::x")
    assert len(command.splitlines()) == 1
    assert "::100 %25%0D%0A::warning::x, 1 reference%0Ain " in command
    odd = clone / "a,b:c.py"
    odd.touch()
    source = "neural_lam/a,b:c.py:3"
    assert "file=clone/neural_lam/a%2Cb%3Ac.py,line=3," in annotated(
        clone, tmp_path, source
    )


def test_green_run_has_none_and_a_stopped_one_says_why(tmp_path):
    assert commands(results(), tmp_path) == []
    stopped = results(incomplete="The run was interrupted.\nCtrl-C")
    assert commands(stopped, tmp_path) == [
        "::error title=nlam-compat::The run was interrupted.%0ACtrl-C"
    ]


def test_summary_is_appended_and_never_too_long(tmp_path):
    file = tmp_path / "summary.md"
    append_summary(results(), file)
    once = file.read_text(encoding="utf-8")
    assert once.startswith("## ✅ ")
    append_summary(results(), file)
    assert file.read_text(encoding="utf-8") == f"{once}\n{once}"

    file.write_text("x" * (SUMMARY_BYTES - 500))
    append_summary(red(), file)
    assert file.stat().st_size <= SUMMARY_BYTES
    added = file.read_text(encoding="utf-8").lstrip("x").strip()
    assert added.startswith("## ❌ neural-lam checkpoints: 1 of 1")
    assert added.endswith("Too long for this page: read the other reports.")
