"""Reading the steps of a repository, and what can be wrong with them."""

import textwrap

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import Migration, Rename, read_steps
from pytest_nlam_compat.migrations.repository import (
    checked,
    raise_on_duplicates,
)

STEP = """
from pytest_nlam_compat.migrations import Migration, Rename
MIGRATIONS = [Migration({id!r}, {since!r}, "Why.", (Rename("a", "b"),))]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of the repository, which is on the path as well."""
    monkeypatch.syspath_prepend(tmp_path)

    def file(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return file


def ids(source, root):
    return [step.id for step in read_steps(source, root)]


def error(source, root):
    with pytest.raises(CompatError) as caught:
        read_steps(source, root)
    return str(caught.value)


def test_a_file_relative_to_the_root(write, tmp_path):
    write("compat/steps.py", STEP.format(id="a", since="0.8.0"))
    assert ids("compat/steps.py", tmp_path) == ["a"]


def test_a_file_by_its_path(write, monkeypatch, tmp_path):
    path = write("steps.py", STEP.format(id="a", since="0.8.0"))
    assert [step.id for step in read_steps(path)] == ["a"]
    monkeypatch.chdir(tmp_path)
    assert [step.id for step in read_steps("steps.py")] == ["a"]


def test_a_folder_is_read_by_release_and_name(write, tmp_path):
    write("steps/b.py", STEP.format(id="b", since="0.8.0"))
    write("steps/a.py", STEP.format(id="late", since="0.10.0"))
    write("steps/c.py", STEP.format(id="c", since="0.8.0"))
    assert ids("steps", tmp_path) == ["b", "c", "late"]


def test_other_files_of_a_folder_are_no_steps(write, tmp_path):
    for name in ("_helper", "__init__", "test_b", "conftest"):
        write(f"steps/{name}.py", "raise RuntimeError('imported')")
    write("steps/notes.md", "No Python.")
    assert ids("steps", tmp_path) == []


def test_a_file_keeps_the_order_of_its_list(write, tmp_path):
    text = STEP.format(id="b", since="0.9.0")
    text += 'MIGRATIONS.append(Migration("a", "0.8.0", "", ()))'
    write("steps.py", text)
    assert ids("steps.py", tmp_path) == ["b", "a"]


def test_a_package_without_a_list_is_a_folder(write, tmp_path):
    write("repo/steps/__init__.py", "")
    write("repo/steps/_helper.py", "ID = 'with a helper'")
    write(
        "repo/steps/a.py",
        """
        from pytest_nlam_compat.migrations import Migration
        from repo.steps._helper import ID
        MIGRATIONS = (Migration(ID, "0.8.0", "", ()) for _ in range(1))
        """,
    )
    assert ids("repo/steps", tmp_path) == ["with a helper"]


def test_a_folder_that_lists_its_steps_itself(write, tmp_path):
    path = write("steps/__init__.py", "MIGRATIONS = []")
    assert error("steps", tmp_path) == (
        "The folder of migrations is a package with its own MIGRATIONS.\n"
        f"  file: {path}\n"
        "Move that list into a file of its own: of a folder, files that begin "
        "with _ are not read."
    )


def test_a_step_may_be_a_dataclass(write, tmp_path):
    write(
        "own.py",
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from pytest_nlam_compat.migrations import Migration, Operation

        @dataclass(repr=False)
        class Own(Operation):
            name: str

        MIGRATIONS = [Migration("a", "0.8.0", "Why.", (Own("x"),))]
        """,
    )
    [step] = read_steps("own.py", tmp_path)
    assert step.operations[0].python() == "Own('x')"


@pytest.mark.parametrize("source", ["steps.py", "compat/steps", "compat.steps"])
def test_a_path_that_is_not_there(source, tmp_path):
    assert error(source, tmp_path) == (
        "The migrations of the repository don't exist.\n"
        f"  path: {tmp_path / source}\n"
        "Correct the path: a file *.py or a folder of such files."
    )


def test_a_file_that_is_no_python(write, tmp_path):
    path = write("steps.toml", "")
    assert error("steps.toml", tmp_path) == (
        "The file of migrations is not a Python file.\n"
        f"  file: {path}\n"
        "Name a file *.py, or a folder of such files."
    )


def test_a_file_without_a_list(write, tmp_path):
    path = write("steps.py", "STEPS = []")
    assert error("steps.py", tmp_path) == (
        "A file of migrations has no MIGRATIONS.\n"
        f"  file: {path}\n"
        "Add the list MIGRATIONS = [Migration(...)], or an underscore in front "
        "of the name of a file without migrations."
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("['a']", "str 'a'"),
        ("None", "NoneType"),
        ("'0.8.0'", "str"),
        ("[Migration]", "type <class *Migration'>"),
        ("Migration('a', '0.8.0', '', ())", "Migration"),
    ],
)
def test_a_list_of_something_else(value, found, write, tmp_path):
    path = write(
        "steps.py",
        "from pytest_nlam_compat.migrations import Migration\n"
        f"MIGRATIONS = {value}",
    )
    lines = error("steps.py", tmp_path).splitlines()
    assert lines[0] == (
        f"MIGRATIONS in {path} provides something other than migrations."
    )
    start, _, end = found.partition("*")
    assert lines[2].startswith(f"  found: {start}")
    assert lines[2].endswith(end)
    assert lines[3] == "List Migration objects there, and nothing else."


def test_a_file_that_raises(write, tmp_path):
    path = write("steps.py", "\n\n1 / 0")
    assert error("steps.py", tmp_path) == (
        "The migrations of the repository can't be imported.\n"
        f"  importing: {path}\n"
        "  cause: ZeroDivisionError: division by zero\n"
        f"  raised in: {path}:3\n"
        "Fix the error above."
    )


def test_a_script_that_leaves_python(write, tmp_path):
    path = write("steps.py", "import sys\nsys.exit('usage: ...')")
    assert error("steps.py", tmp_path) == (
        "The migrations of the repository can't be imported.\n"
        f"  importing: {path}\n"
        "  cause: SystemExit: usage: ...\n"
        f"  raised in: {path}:2\n"
        "Fix the error above."
    )


def test_a_file_that_does_not_compile(write, tmp_path):
    path = write("steps.py", "MIGRATIONS = [")
    assert error("steps.py", tmp_path) == (
        "The migrations of the repository can't be imported.\n"
        f"  importing: {path}\n"
        "  cause: SyntaxError: '[' was never closed (steps.py, line 1)\n"
        "Fix the error above."
    )


def test_a_file_that_needs_what_is_not_installed(write, tmp_path):
    path = write("steps.py", "import not_installed")
    assert error("steps.py", tmp_path) == (
        "The migrations of the repository can't be imported.\n"
        f"  importing: {path}\n"
        "  cause: ModuleNotFoundError: No module named 'not_installed'\n"
        f"  raised in: {path}:1\n"
        "Fix the error above."
    )


def test_an_operation_that_is_none_is_an_import_error(write, tmp_path):
    write(
        "steps.py",
        """
        from pytest_nlam_compat.migrations import Rename
        Rename("a.*", "b")
        """,
    )
    assert (
        "  cause: ValueError: The patterns need the same number of wildcards: "
        "'a.*' and 'b'\n"
    ) in error("steps.py", tmp_path)


def step(name, reason):
    return Migration(name, "0.8.0", reason, (Rename("a", "b"),))


def test_two_steps_with_one_id():
    with pytest.raises(CompatError) as caught:
        raise_on_duplicates([step("a", "One."), step("a", "Two.")], [])
    assert str(caught.value) == (
        "Two migrations have the id 'a'.\n"
        "  in the repository: One.\n"
        "  and: Two.\n"
        "Choose another id for the newer one: published migrations never "
        "change. Remove what neural-lam's history has by now."
    )


def test_a_step_that_the_history_has_by_now():
    with pytest.raises(CompatError) as caught:
        raise_on_duplicates([step("a", "One.")], [step("a", "One (#1).")])
    assert caught.value.facts == {
        "in neural-lam's history": "One (#1).",
        "and": "One.",
    }


def test_different_ids_are_fine():
    raise_on_duplicates([step("a", ""), step("b", "")], [step("c", "")])


def test_what_gives_no_migrations_is_named():
    with pytest.raises(CompatError) as caught:
        checked([1], "The hook")
    assert str(caught.value) == (
        "The hook provides something other than migrations.\n"
        "  expected: a list of pytest_nlam_compat.migrations.Migration\n"
        "  found: int 1\n"
        "List Migration objects there, and nothing else."
    )
