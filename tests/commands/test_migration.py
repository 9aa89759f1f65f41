"""``nlam-compat migration new``, in repositories of several kinds."""

import json
import os
import subprocess
import sys

import pytest

NEW = [sys.executable, "-m", "pytest_nlam_compat", "migration", "new"]
NEXT = (
    "{}. In encoding_mlp.py, write the reason, and the operations that move "
    "old weights\n   to where the new code looks for them.\n"
    "{}. Run `pytest --nlam-compat`. It fails until all references older than "
    "0.8.0\n   reproduce their outputs, and says what is missing.\n"
    "{}. In test_encoding_mlp.py, test the migration on a few weights.\n"
)


class Repository:
    def __init__(self, folder):
        self.folder = folder

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *arguments, below="."):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTEST")
        }
        return subprocess.run(
            arguments,
            cwd=self.folder / below,
            env={**environment, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
        )

    def new(self, *arguments, **more):
        return self.run(*NEW, *arguments, **more)

    def files(self):
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*.py")
        )


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


@pytest.mark.parametrize(
    ("file", "section", "value"),
    [
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]",
            '"tests/migrations"',
        ),
        ("setup.cfg", "[tool:pytest]", "tests/migrations"),
        ("tox.ini", "[pytest]", "tests/migrations"),
    ],
)
def test_without_the_key_it_says_how_to_set_it(
    file, section, value, repository
):
    option = json.dumps("--no-such-option")
    repository.write(file, f"{section}  # ours\naddopts = {option}\n")
    result = repository.new("encoding-mlp")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "Wrote tests/migrations/encoding_mlp.py\n"
        "Wrote tests/migrations/test_encoding_mlp.py\n"
        "Next:\n"
        f"1. Tell pytest where they are: in {file}, add this line below "
        f"{section}:\n     nlam_compat_migrations = {value}\n"
        + NEXT.format(2, 3, 4)
    )


def test_with_the_key_it_writes_beside_the_others(repository):
    repository.write("pytest.ini", "[pytest]\nnlam_compat_migrations=a/steps")
    other = repository.write("a/steps/other.py", "raise RuntimeError")
    result = repository.new("encoding-mlp")
    assert result.stdout == (
        "Wrote a/steps/encoding_mlp.py\n"
        "Wrote a/steps/test_encoding_mlp.py\n"
        "Next:\n" + NEXT.format(1, 2, 3)
    )
    assert other.read_text() == "raise RuntimeError"


def test_from_a_folder_below_it_writes_to_the_same_place(repository):
    repository.write("pytest.ini", "[pytest]\nnlam_compat_migrations=steps")
    repository.write("steps/other.py")
    repository.write("src/module.py")
    result = repository.new("a", below="src")
    assert result.returncode == 0
    assert result.stdout.startswith(
        f"Wrote {repository.folder / 'steps' / 'a.py'}\n"
    )


@pytest.mark.parametrize("key", ["", "own/steps"])
def test_nothing_of_the_repository_is_imported(key, repository):
    trap = "open('ran', 'w')\nraise RuntimeError\n"
    trapped = ("conftest", "evil", "neural_lam/__init__", "own/__init__")
    for name in (*trapped, "own/steps/__init__", "own/steps/other"):
        repository.write(f"{name}.py", trap)
    repository.write(
        "pytest.ini",
        "[pytest]\naddopts = -p evil\npythonpath = .\n"
        f"nlam_compat_migrations = {key}\n",
    )
    assert repository.new("a").returncode == 0
    assert not (repository.folder / "ran").exists()


@pytest.mark.slow
def test_the_step_is_read_and_its_test_passes(repository):
    assert repository.new("encoding-mlp").returncode == 0
    code = (
        "from pytest_nlam_compat.migrations import read_steps\n"
        "from pytest_nlam_compat.migrations.lint import check_registry\n"
        "[step] = read_steps('tests/migrations')\n"
        "print(step.id, step.since, *check_registry([step]))"
    )
    result = repository.run(sys.executable, "-c", code)
    assert result.stdout == (
        "0.8.0-encoding-mlp 0.8.0 0.8.0-encoding-mlp: It has no reason yet.\n"
    )
    result = repository.run(sys.executable, "-m", "pytest", "-q")
    assert result.stdout.splitlines()[-1].startswith("1 passed")


def test_the_release_may_be_said(repository):
    repository.new("a", "--since", "0.9")
    text = (repository.folder / "tests/migrations/a.py").read_text()
    assert 'id="0.9-a"' in text
    assert 'since="0.9"' in text


def refused(result):
    assert result.returncode == 1
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("name", ["a.py", "test_a.py"])
def test_nothing_is_overwritten(name, repository):
    path = repository.write(f"tests/migrations/{name}", "mine")
    assert refused(repository.new("a")) == (
        "The file exists already.\n"
        f"  file: tests/migrations/{name}\n"
        "Choose another name: published migrations never change.\n"
    )
    assert path.read_text() == "mine"
    assert repository.files() == [f"tests/migrations/{name}"]


@pytest.mark.parametrize(
    "name", ["Encoding", "a_b", "a--b", "-", "1a", "test-a", "conftest", "a/b"]
)
def test_a_name_that_is_none(name, repository):
    assert refused(repository.new("--", name)) == (
        f"{name!r} can't be the name of a migration.\n"
        "  expected: lower-case words joined by hyphens, such as "
        "encoding-mlp; not conftest, and not test-...\n"
        "Name what changes.\n"
    )
    assert repository.files() == []


def test_a_release_that_is_none(repository):
    done = repository.new("a", "--since", "soon")
    assert done.returncode == 2
    assert "--since: invalid Version value: 'soon'" in done.stderr


@pytest.mark.parametrize("key", ["steps.py", "steps.txt", "gone.py"])
def test_a_single_file_has_no_place_beside_it(key, repository):
    repository.write("pytest.ini", f"[pytest]\nnlam_compat_migrations={key}")
    repository.write("steps.py", "MIGRATIONS = []")
    repository.write("steps.txt")
    assert refused(repository.new("a")) == (
        "nlam_compat_migrations names one file, and a new migration needs a "
        "file of its own.\n"
        f"  nlam_compat_migrations: {key}\n"
        "Move that file into a folder and name the folder, or write the "
        "migration into the file.\n"
    )


def test_a_configuration_that_pytest_refuses(repository):
    repository.write("pytest.ini", "[pytest]\nno equals sign\n")
    result = repository.new("a")
    assert result.returncode == 1
    assert result.stderr.endswith(
        "pytest can't be configured here.\n"
        "  status: 4\n"
        "Run `pytest --nlam-compat`, and fix the error it shows.\n"
    )
