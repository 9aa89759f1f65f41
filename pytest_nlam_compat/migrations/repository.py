"""The steps that a repository brings along, read from where it keeps them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration

NAME = "MIGRATIONS"
"""What a file of steps calls its list of them."""

# Of a traceback, what is between us and the file that is imported.
_NOT_THEIRS = ("<frozen ", str(importlib.__file__), __file__)
_MISSING = "The migrations of the repository are not where it says."


def read_steps(source: str | Path, root: Path | None = None) -> list[Migration]:
    """Read the steps of a repository.

    Parameters
    ----------
    source : str or pathlib.Path
        A file ``*.py``, a folder of such files, or a dotted module. Each has
        a list ``MIGRATIONS``. In a folder, files that begin with ``_`` or
        ``test_`` are no steps, nor is ``conftest.py``; a package without
        ``MIGRATIONS`` of its own is such a folder.
    root : pathlib.Path, optional
        What a path is relative to; the working directory by default.

    Returns
    -------
    list of Migration
        As listed. Those of a folder by release, and within one by the names
        of the files.

    Raises
    ------
    CompatError
        There is no such file or module, it can't be imported, or it has no
        list of migrations.
    """
    path = locate(source, root or Path.cwd())
    if path is None:
        module = _module(str(source))
        if hasattr(module, NAME) or not hasattr(module, "__path__"):
            return _steps(module)
        [folder] = module.__path__
        modules = [
            _module(f"{module.__name__}.{file.stem}")
            for file in step_files(Path(folder))
        ]
    elif path.is_dir():
        _refuse_list(path / "__init__.py")
        modules = [_file(file) for file in step_files(path)]
    else:
        return _steps(_file(path))
    steps = [step for module in modules for step in _steps(module)]
    return sorted(steps, key=lambda step: Version(step.since))


def locate(source: str | Path, root: Path) -> Path | None:
    """Find the path that a source names, None where it names a module.

    Raises
    ------
    CompatError
        It is a path, and nothing is there.
    """
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
        facts={"there is no": path},
        remedy="Correct the path, a file *.py or a folder of such files.",
    )


def step_files(folder: Path) -> list[Path]:
    """List the files of a folder that hold steps, by name."""
    return [
        file
        for file in sorted(folder.glob("*.py"))
        if not file.name.startswith(("_", "test_"))
        and file.name != "conftest.py"
    ]


def _refuse_list(init: Path) -> None:
    """Raise where a folder is a package that lists its steps itself."""
    if init.exists() and NAME in init.read_text(encoding="utf-8"):
        raise CompatError(
            f"The folder of migrations is a package with {NAME} of its own.",
            facts={"file": init},
            remedy="Name it as a module, with dots, or drop its list: a folder "
            "is read file by file.",
        )


def refuse_duplicates(
    steps: Iterable[Migration], history: Iterable[Migration]
) -> None:
    """Raise where two steps have one id.

    Parameters
    ----------
    steps : iterable of Migration
        Of the repository.
    history : iterable of Migration
        Of neural-lam, as far as the code under test is concerned.

    Raises
    ------
    CompatError
        Naming the id and both reasons.
    """
    taken = {step.id: (step, "neural-lam's history") for step in history}
    for step in steps:
        if step.id in taken:
            first, where = taken[step.id]
            raise CompatError(
                f"Two migrations have the id {step.id!r}.",
                facts={f"in {where}": first.reason, "and": step.reason},
                remedy="An id is for good. Give the newer step another, or "
                "drop what neural-lam's history has by now.",
            )
        taken[step.id] = (step, "the repository")


def checked(found: object, source: str) -> list[Migration]:
    """Insist that something is a collection of migrations.

    Parameters
    ----------
    found : object
    source : str
        What gave it, for the error.

    Returns
    -------
    list of Migration

    Raises
    ------
    CompatError
        Naming what is none.
    """
    if not isinstance(found, Iterable) or isinstance(found, str | bytes):
        raise _no_migrations(source, type(found).__name__)
    steps = list(found)
    for step in steps:
        if not isinstance(step, Migration):
            raise _no_migrations(source, f"{type(step).__name__} {step!r}")
    return steps


def _no_migrations(source: str, found: str) -> CompatError:
    return CompatError(
        f"{source} gives something else than migrations.",
        facts={
            "expected": "a list of pytest_nlam_compat.migrations.Migration",
            "found": found,
        },
        remedy="List Migration objects there, and nothing else.",
    )


def _steps(module: ModuleType) -> list[Migration]:
    if not hasattr(module, NAME):
        raise CompatError(
            f"A file of migrations has no {NAME}.",
            facts={"file": module.__file__},
            remedy=f"List its steps: {NAME} = [Migration(...)]. A file that "
            "is no step has a name that begins with an underscore.",
        )
    return checked(getattr(module, NAME), f"{NAME} in {module.__file__}")


def _module(name: str) -> ModuleType:
    with _imported(name):
        found = _spec(name)
        if found is not None:
            return importlib.import_module(name)
    raise CompatError(
        _MISSING,
        facts={"there is no module": name},
        remedy="Correct the name, or install what has it; a path is relative "
        "to the root of the repository.",
    )


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # Of the packages above it; one that it imports is another matter.
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise


def _file(path: Path) -> ModuleType:
    name = f"nlam_compat_migrations_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CompatError(
            "The migrations of the repository are no Python file.",
            facts={"file": path},
            remedy="Name a file *.py, or a folder of such files.",
        )
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up there.
    sys.modules[name] = module
    with _imported(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _imported(what: object) -> Iterator[None]:
    """Turn whatever an import raises into one clear error."""
    try:
        yield
    # Not ours to foresee: somebody's file can raise anything, and a script
    # that parses its arguments leaves by SystemExit.
    except (Exception, SystemExit) as cause:
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
            remedy="Mend what raised.",
        ) from cause
