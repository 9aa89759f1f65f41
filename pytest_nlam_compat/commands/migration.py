"""``nlam-compat migration new``: begin a step of the history."""

from __future__ import annotations

import argparse
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.pytest_config import PytestSetup

NAME = "migration"
HELP = "Write migrations of a repository: new NAME."

KEY = "nlam_compat_migrations"
DEFAULT = "tests/migrations"

# How a key is written in each of pytest's files, by name or suffix.
_SECTIONS = {
    "pyproject.toml": ("[tool.pytest.ini_options]", '"{}"'),
    "setup.cfg": ("[tool:pytest]", "{}"),
    ".ini": ("[pytest]", "{}"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    what = parser.add_subparsers(metavar="new", required=True)
    new = what.add_parser(
        "new",
        help="write a step and its test, for you to fill in",
        description="Write a migration and its test beside the others of the "
        f"repository: in the folder of pytest's ini key {KEY}, or in "
        f"{DEFAULT}. Nothing is overwritten.",
    )
    new.add_argument(
        "name",
        metavar="NAME",
        help="words joined by hyphens, such as encoding-mlp",
    )
    new.add_argument(
        "--since",
        metavar="RELEASE",
        help="first release with the change (default: the next one)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the two files, and tell what to do next.

    Parameters
    ----------
    arguments : Namespace
        With ``name`` and ``since``.

    Returns
    -------
    int
        0: anything else is an error.

    Raises
    ------
    CompatError
        For a name that is none, or where a file exists already.
    """
    from pytest_nlam_compat.migrations.template import step_text, test_text

    stem = _stem(arguments.name)
    since = _since(arguments.since)
    place = _place()
    step = place.folder / f"{stem}.py"
    test = place.folder / f"test_{stem}.py"
    for file in (step, test):
        if file.exists():
            raise CompatError(
                "There is such a file already.",
                facts={"file": file},
                remedy="Take another name; a step that is published stays.",
            )
    place.folder.mkdir(parents=True, exist_ok=True)
    step.write_text(step_text(arguments.name, since), encoding="utf-8")
    test.write_text(test_text(stem), encoding="utf-8")
    print(f"Wrote {step}\nWrote {test}\nNext:")
    todo = [
        *([place.advice] if place.advice else []),
        f"In {step.name} give the reason, and the operations by which weights "
        "of old\n   runs get where the new code looks for them.",
        "Run `pytest --nlam-compat`: it is red until all references older "
        f"than {since}\n   give their outputs again, and says what is missing.",
        f"Make {test.name} tell the same of a few weights.",
    ]
    for number, line in enumerate(todo, 1):
        print(f"{number}. {line}")
    return 0


def _stem(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or (
        name.startswith("test-") or name == "conftest"
    ):
        raise CompatError(
            f"{name!r} is no name for a migration.",
            facts={
                "expected": "lower-case words joined by hyphens, such as "
                "encoding-mlp; not conftest, and not test-..."
            },
            remedy="Name what changes.",
        )
    return name.replace("-", "_")


def _since(given: str | None) -> str:
    from packaging.version import InvalidVersion, Version

    if given is None:
        return _next_release()
    try:
        return str(Version(given))
    except InvalidVersion:
        raise CompatError(
            f"{given!r} is not a release.",
            remedy="Give a version such as 0.8.0.",
        ) from None


def _next_release() -> str:
    """Name the release that the repository is on its way to."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import InvalidVersion, Version

    from pytest_nlam_compat.migrations.releases import RELEASES

    newest = Version(RELEASES[-1])
    with suppress(PackageNotFoundError, InvalidVersion):
        newest = max(newest, Version(version("neural-lam")))
    if newest.is_prerelease and newest.micro == 0:
        return newest.base_version
    return f"{newest.major}.{newest.minor + 1}.0"


@dataclass(frozen=True)
class _Place:
    """Where steps of the repository are, and what is to do for that."""

    folder: Path
    advice: str = ""


def _place() -> _Place:
    from pytest_nlam_compat.checks.pytest_config import read_setup

    setup = read_setup()
    here = Path.cwd()
    if not setup.migrations:
        folder = setup.root / DEFAULT
        return _Place(_relative(folder, here), _advice(setup))
    path = setup.root / setup.migrations
    if path.is_dir() or ("/" in setup.migrations and path.suffix != ".py"):
        return _Place(_relative(path, here))
    package = _package(setup.migrations)
    if package is None:
        raise CompatError(
            f"{KEY} names one file, and a new step gets a file of its own.",
            facts={KEY: setup.migrations},
            remedy="Move that file into a folder and name the folder, or "
            "write the step into it.",
        )
    return _Place(_relative(package, here))


def _package(name: str) -> Path | None:
    """Find the folder of a package whose modules are its steps."""
    from importlib import import_module
    from importlib.util import find_spec

    from pytest_nlam_compat.migrations import repository

    if name.endswith(".py"):
        return None
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        # With its error, which says what is expected.
        repository.read_steps(name)
        return None
    if spec.submodule_search_locations is None:
        return None
    if hasattr(import_module(name), repository.NAME):
        return None
    return Path(spec.submodule_search_locations[0])


def _advice(setup: PytestSetup) -> str:
    file = setup.file or setup.root / "pytest.ini"
    section, value = _SECTIONS.get(file.name) or _SECTIONS[".ini"]
    return (
        f"Tell pytest where it is, in {file.name}:\n"
        f"     {section}\n"
        f"     {KEY} = {value.format(DEFAULT)}"
    )


def _relative(path: Path, here: Path) -> Path:
    return path.relative_to(here) if path.is_relative_to(here) else path
