"""Whatever the code under test raises is one error, with its place."""

import importlib
import inspect
import json
import sys
from types import ModuleType

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.under_test.code_under_test import (
    callers,
    code_under_test,
)

REMEDY = (
    "If the change is intended, add a migration for it. If not, fix the error "
    "above."
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A neural_lam of one file, of which a test sets the content."""
    # The name of a clone, in which there is an environment, too.
    folder = tmp_path / "neural_lam" / "neural_lam"
    folder.mkdir(parents=True)
    module = ModuleType("neural_lam")
    module.__file__ = str(folder / "__init__.py")
    monkeypatch.setitem(sys.modules, "neural_lam", module)

    def load(content, name="neural_lam/model.py"):
        path = folder.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        names = {"json": json}
        exec(compile(content, str(path), "exec"), names)
        return names, path

    return load


def error_of(run, doing="Rolling out"):
    with pytest.raises(CompatError) as raised, code_under_test(doing):
        run()
    return raised.value


def test_what_where_and_why(package):
    names, path = package("\ndef forward():\n    raise ValueError('of it')\n")
    assert str(error_of(names["forward"])) == (
        "Rolling out failed.\n"
        "  cause: ValueError: of it\n"
        f"  raised in: {path}:3, in forward\n"
        f"{REMEDY}"
    )


def test_the_innermost_line_of_neural_lam_is_told(package):
    names, path = package(
        "def outer():\n    inner()\n\ndef inner():\n    json.loads('{')\n"
    )
    error = error_of(names["outer"])
    assert error.facts["raised in"] == f"{path}:5, in inner"


def test_an_environment_in_a_clone_is_not_the_clone(package):
    names, path = package("def forward(run):\n    run()\n")
    library, _ = package(
        "def fail():\n    1 / 0\n", name=".venv/site-packages/library.py"
    )
    error = error_of(lambda: names["forward"](library["fail"]))
    assert error.facts["raised in"] == f"{path}:2, in forward"


def test_without_a_line_of_neural_lam_it_is_the_innermost_of_others():
    error = error_of(lambda: json.loads("{"))
    assert error.facts["raised in"].startswith(inspect.getfile(json.decoder))
    assert error.facts["cause"].startswith("JSONDecodeError: Expecting ")


def test_without_a_library_it_is_the_innermost_line_of_the_caller():
    def fail():
        raise KeyError("a")

    error = error_of(fail)
    assert error.facts["cause"] == "KeyError: 'a'"
    assert error.facts["raised in"].endswith("in fail")
    assert isinstance(error.__cause__, KeyError)


def test_a_long_message_is_one_short_line():
    def fail():
        raise RuntimeError("Error(s) in loading:\n\t" + "missing key, " * 99)

    cause = error_of(fail).facts["cause"]
    assert cause.startswith("RuntimeError: Error(s) in loading: missing key, ")
    assert cause.endswith(" ...")
    assert "\n" not in cause
    assert len(cause) == len("RuntimeError: ") + 500 + len(" ...")


def test_a_message_in_colours_is_plain():
    def fail():
        raise RuntimeError("\x1b[1;31mno kernel\x1b[0m for it")

    cause = error_of(fail).facts["cause"]
    assert cause == "RuntimeError: no kernel for it"


def test_an_import_that_fails_is_told_where_it_stands(tmp_path, monkeypatch):
    file = tmp_path / "wants_what_is_not_there.py"
    file.write_text("import os\nimport is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = error_of(lambda: importlib.import_module(file.stem))
    assert error.facts == {
        "cause": "ModuleNotFoundError: No module named 'is_not_there'",
        "raised in": f"{file}:2, in <module>",
    }


def test_an_error_that_is_clear_already_is_left_alone():
    clear = CompatError("It broke.", remedy="Fix it.")

    def fail():
        raise clear

    assert error_of(fail) is clear


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failure(kind):
    with pytest.raises(kind), code_under_test("Rolling out"):
        raise kind


def test_without_an_error_nothing_happens():
    with code_under_test("Rolling out"):
        pass


def test_callers_are_those_that_python_finds_without_their_source():
    def both():
        return callers(), inspect.stack()

    ours, pythons = both()

    assert [f[1:4] for f in ours[1:]] == [f[1:4] for f in pythons[1:]]
    assert ours[0].function == "both"
    assert all(frame.code_context is None for frame in ours)
