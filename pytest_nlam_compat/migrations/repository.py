"""The migrations of a repository, read from where it keeps them."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration

INI_KEY = "nlam_compat_migrations"
"""pytest's ini key that names where a repository keeps its migrations."""
DEFAULT_FOLDER = "tests/migrations"
"""Where they are put if the ini key is not set, relative to the root."""
LIST = "MIGRATIONS"
"""What a file calls its list of them."""

# How a key is set in each of pytest's files, by name.
_SECTIONS = {
    "pyproject.toml": "[tool.pytest.ini_options]",
    "setup.cfg": "[tool:pytest]",
}
# Of a traceback, what is between us and the file that is imported.
_NOT_THEIRS = ("<frozen ", __file__)


class RepositorySetup(NamedTuple):
    """Where a repository keeps its migrations, by pytest's configuration.

    `source` is the value of `INI_KEY`, relative to the root of the repository,
    or empty if it is not set in the configuration file, `ini_file`.
    """

    root: Path = Path()
    source: str = ""
    ini_file: Path | None = None

    def advice(self, path: Path | str = DEFAULT_FOLDER) -> str:
        """Say how to set the ini key, in the syntax of the file."""
        file = self.ini_file or self.root / "pytest.ini"
        section = _SECTIONS.get(file.name, "[pytest]")
        value = Path(path).as_posix()
        if file.suffix == ".toml":
            value = json.dumps(value, ensure_ascii=False)
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        # A second section of the same name would be an error.
        there = re.search(rf"^\s*{re.escape(section)}", text, re.MULTILINE)
        how = f": in {file.name}, add this line below {section}:"
        if not there:
            how = f", in {file.name}:\n     {section}"
        return f"Tell pytest where they are{how}\n     {INI_KEY} = {value}"

    def unread(self, path: Path | str = DEFAULT_FOLDER) -> str:
        """Say that migrations are not read, and how to change that."""
        what = f"{path} holds migrations, but no ini key {INI_KEY} names it."
        return f"{what}\n{self.advice(path)}"

    def unread_default(self) -> str:
        """Say so of the default folder; nothing unless it holds migrations."""
        folder = self.root / DEFAULT_FOLDER
        if self.source or not any(map(_has_list, step_files(folder))):
            return ""
        return self.unread()


def read_steps(source: str | Path, root: Path | None = None) -> list[Migration]:
    """Read the migrations of a repository.

    Parameters
    ----------
    source : str or pathlib.Path
        A file ``*.py``, or a folder of such files. Each has a list
        ``MIGRATIONS``. In a folder, ``conftest.py`` and files that begin with
        ``_`` or ``test_`` are not read.
    root : pathlib.Path, optional
        What a path is relative to; the working directory by default.

    Returns
    -------
    list of Migration
        As listed; of a folder by release, then by the names of the files.

    Raises
    ------
    CompatError
        The path doesn't exist, or a file can't be imported or has no list of
        migrations.
    """
    path = (root or Path.cwd()) / source
    if not path.exists():
        raise CompatError(
            "The migrations of the repository don't exist.",
            facts={"path": path},
            remedy="Correct the path: a file *.py or a folder of such files.",
        )
    if not path.is_dir():
        return _steps(_imported(path))
    if _has_list(path / "__init__.py"):
        raise CompatError(
            f"The folder of migrations is a package with its own {LIST}.",
            facts={"file": path / "__init__.py"},
            remedy="Move that list into a file of its own: of a folder, files "
            "that begin with _ are not read.",
        )
    steps = [step for f in step_files(path) for step in _steps(_imported(f))]
    return sorted(steps, key=lambda step: Version(step.since))


def step_files(folder: Path) -> list[Path]:
    """List the files of a folder that hold migrations, by name."""
    return [
        file
        for file in sorted(folder.glob("*.py"))
        if not file.name.startswith(("_", "test_"))
        and file.name != "conftest.py"
    ]


def raise_on_duplicates(
    steps: Iterable[Migration], history: Iterable[Migration]
) -> None:
    """Refuse two migrations with one id.

    `steps` are those of the repository, and `history` is neural-lam's up to
    the release of the code under test.
    """
    taken = {step.id: (step, "neural-lam's history") for step in history}
    for step in steps:
        if step.id in taken:
            first, where = taken[step.id]
            raise CompatError(
                f"Two migrations have the id {step.id!r}.",
                facts={f"in {where}": first.reason, "and": step.reason},
                remedy="Choose another id for the newer one: published "
                "migrations never change. Remove what neural-lam's history "
                "has by now.",
            )
        taken[step.id] = (step, "the repository")


def checked(found: object, source: str) -> list[Migration]:
    """Return what a source provides as a list; refuse all but migrations."""
    if isinstance(found, Iterable) and not isinstance(found, str | bytes):
        steps = list(found)
        others = [step for step in steps if not isinstance(step, Migration)]
        if not others:
            return steps
        wrong = f"{type(others[0]).__name__} {others[0]!r}"
    else:
        wrong = type(found).__name__
    raise CompatError(
        f"{source} provides something other than migrations.",
        facts={
            "expected": "a list of pytest_nlam_compat.migrations.Migration",
            "found": wrong,
        },
        remedy="List Migration objects there, and nothing else.",
    )


def _has_list(file: Path) -> bool:
    return file.is_file() and LIST.encode() in file.read_bytes()


def _steps(module: ModuleType) -> list[Migration]:
    if not hasattr(module, LIST):
        raise CompatError(
            f"A file of migrations has no {LIST}.",
            facts={"file": module.__file__},
            remedy=f"Add the list {LIST} = [Migration(...)], or an underscore "
            "in front of the name of a file without migrations.",
        )
    return checked(getattr(module, LIST), f"{LIST} in {module.__file__}")


def _imported(path: Path) -> ModuleType:
    name = f"{INI_KEY}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CompatError(
            "The file of migrations is not a Python file.",
            facts={"file": path},
            remedy="Name a file *.py, or a folder of such files.",
        )
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    # Somebody else's file can raise anything, and a script that parses its
    # arguments exits with SystemExit.
    except (Exception, SystemExit) as cause:
        import traceback

        frames = [
            f"{frame.filename}:{frame.lineno}"
            for frame in traceback.extract_tb(cause.__traceback__)
            if not frame.filename.startswith(_NOT_THEIRS)
        ]
        raise CompatError(
            "The migrations of the repository can't be imported.",
            facts={
                "importing": path,
                "cause": f"{type(cause).__name__}: {cause}",
                **({"raised in": frames[-1]} if frames else {}),
            },
            remedy="Fix the error above.",
        ) from cause
    return module
