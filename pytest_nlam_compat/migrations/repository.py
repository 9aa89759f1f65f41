"""The migrations of a repository, read from where it keeps them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

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
_NOT_THEIRS = ("<frozen ", str(importlib.__file__), __file__)
_MISSING = "The migrations of the repository don't exist."


@dataclass(frozen=True)
class RepositorySetup:
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

    def location(self) -> Path | None:
        """Return the file or folder of the source, None if it is empty.

        Nothing is imported.

        Raises
        ------
        CompatError
            It does not exist.
        """
        if not self.source:
            return None
        path = _path(self.source, self.root)
        if path is not None:
            return path
        spec = _find_module(self.source)
        if spec is None:
            raise _no_module(self.source)
        folders = [Path(each) for each in spec.submodule_search_locations or ()]
        if folders and not _has_list(folders[0] / "__init__.py"):
            return folders[0]
        return Path(str(spec.origin))


def read_steps(source: str | Path, root: Path | None = None) -> list[Migration]:
    """Read the migrations of a repository.

    Parameters
    ----------
    source : str or pathlib.Path
        A file ``*.py``, a folder of such files, or a dotted module. Each has
        a list ``MIGRATIONS``. In a folder, ``conftest.py`` and files that
        begin with ``_`` or ``test_`` are not read; a package without
        ``MIGRATIONS`` of its own is such a folder.
    root : pathlib.Path, optional
        What a path is relative to; the working directory by default.

    Returns
    -------
    list of Migration
        As listed; of a folder by release, then by the names of the files.

    Raises
    ------
    CompatError
        The file or module doesn't exist, can't be imported, or has no list of
        migrations.
    """
    path = _path(source, root or Path.cwd())
    if path is None:
        module = _module(str(source))
        folder = _package_folder(module)
        if folder is None:
            return _steps(module)
        modules = [
            _module(f"{module.__name__}.{file.stem}")
            for file in step_files(folder)
        ]
    elif path.is_dir():
        _raise_on_list(path / "__init__.py")
        modules = [_file(file) for file in step_files(path)]
    else:
        return _steps(_file(path))
    steps = [step for module in modules for step in _steps(module)]
    return sorted(steps, key=lambda step: Version(step.since))


def _path(source: str | Path, root: Path) -> Path | None:
    """Find the path that a source names; None if it names a module."""
    path = root / source
    if path.exists():
        return path
    name = str(source)
    if not name.endswith(".py") and all(
        part.isidentifier() for part in name.split(".")
    ):
        return None
    raise CompatError(
        _MISSING,
        facts={"path": path},
        remedy="Correct the path: a file *.py or a folder of such files.",
    )


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


def _raise_on_list(init: Path) -> None:
    if _has_list(init):
        raise CompatError(
            f"The folder of migrations is a package with its own {LIST}.",
            facts={"file": init},
            remedy="Name it as a module, with dots, or remove its list: a "
            "folder is read file by file.",
        )


def _steps(module: ModuleType) -> list[Migration]:
    if not hasattr(module, LIST):
        raise CompatError(
            f"A file of migrations has no {LIST}.",
            facts={"file": module.__file__},
            remedy=f"Add the list {LIST} = [Migration(...)], or an underscore "
            "in front of the name of a file without migrations.",
        )
    return checked(getattr(module, LIST), f"{LIST} in {module.__file__}")


def _module(name: str) -> ModuleType:
    with _import_errors(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            # One that the module imports is another matter.
            if not f"{name}.".startswith(f"{error.name}."):
                raise
    raise _no_module(name)


def _find_module(name: str) -> ModuleSpec | None:
    """Find a module without importing the packages that it is in."""
    whole, path, spec = "", None, None
    for part in name.split("."):
        if spec is not None and path is None:
            return None  # what would be in it is no package
        whole = f"{whole}.{part}".removeprefix(".")
        found = (each.find_spec(whole, path) for each in sys.meta_path)
        spec = next(filter(None, found), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def _no_module(name: str) -> CompatError:
    return CompatError(
        _MISSING,
        facts={"module": name},
        remedy="Correct the name, or install what has it. A path is relative "
        "to the root of the repository.",
    )


def _package_folder(module: ModuleType) -> Path | None:
    """Return the folder of a package that is read file by file."""
    if hasattr(module, LIST) or not hasattr(module, "__path__"):
        return None
    return Path(next(iter(module.__path__)))


def _file(path: Path) -> ModuleType:
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
    with _import_errors(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _import_errors(what: object) -> Iterator[None]:
    """Turn whatever an import raises into one clear error."""
    try:
        yield
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
                "importing": what,
                "cause": f"{type(cause).__name__}: {cause}",
                **({"raised in": frames[-1]} if frames else {}),
            },
            remedy="Fix the error above.",
        ) from cause
