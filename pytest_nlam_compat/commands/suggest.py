"""``nlam-compat suggest``: the step that mends what fails, already proved."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.diagnosis.stepping import Suggestions
    from pytest_nlam_compat.migrations import Migration
    from pytest_nlam_compat.routes.subject import Subject

NAME = "suggest"
HELP = "Search for the migration that makes failing references pass."

_HEAD = '''"""Steps of this repository, for runs that were saved before them."""

from pytest_nlam_compat.migrations import *

MIGRATIONS = [
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--release",
        metavar="SPEC",
        default="",
        help="only references of these releases, such as '>=0.5' (PEP 440)",
    )
    parser.add_argument(
        "--case",
        metavar="GLOB",
        default="*",
        help="only these cases, such as 'hi_lam*'",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        default=Path("nlam_compat_migrations.py"),
        help="where the steps of the repository are, a file *.py; name it in "
        "the ini key nlam_compat_migrations (default: %(default)s)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="add what is verified to that file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Search, print what was found, and write it if asked to.

    Parameters
    ----------
    arguments : Namespace
        With ``release``, ``case``, ``file`` and ``write``.

    Returns
    -------
    int
        0 if every reference passes or is mended by a verified step, 1 if not.

    Raises
    ------
    CompatError
        There is no code, reference or readable file of steps.
    """
    from pytest_nlam_compat.diagnosis.stepping import suggest_steps
    from pytest_nlam_compat.migrations.repository import read_steps

    file: Path = arguments.file
    own = read_steps(file.resolve()) if file.exists() else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subjects = _subjects(arguments.release, arguments.case, own, folder)
        count = len(subjects)
        print(
            "1 reference" if count == 1 else f"{count} references", flush=True
        )
        found = suggest_steps(subjects, folder / "search")
    print(found.report())
    if found.steps and arguments.write:
        write(found, file)
        print(f"Written to {file}.")
    elif found.steps:
        print(
            f"Put it into {file}, or run it again with --write, and set the "
            f"ini key nlam_compat_migrations = {file}."
        )
    return int(bool(found.unmended or found.several))


def write(found: Suggestions, file: Path) -> None:
    """Add steps to a file with a list ``MIGRATIONS``, or begin one.

    Parameters
    ----------
    found : Suggestions
    file : pathlib.Path

    Raises
    ------
    CompatError
        The file does not end with its list.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else f"{_HEAD}]\n"
    body, bracket, rest = text.rpartition("]")
    if not bracket or rest.strip() or "MIGRATIONS" not in body:
        raise CompatError(
            "The steps can't be added to the file: it does not end with its "
            "list of them.",
            facts={"file": file},
            remedy="Add them by hand: MIGRATIONS = [..., Migration(...)].",
        )
    body = body.rstrip()
    if not body.endswith(("[", ",")):
        body += ","
    steps = "".join(_indented(step.python()) for step in found.steps)
    file.write_text(f"{body}\n{steps}]\n", encoding="utf-8")


def _indented(python: str) -> str:
    return "".join(f"    {line}\n" for line in python.splitlines())[:-1] + ",\n"


def _subjects(
    spec: str, pattern: str, own: list[Migration], folder: Path
) -> list[Subject]:
    """Put the chosen references before the current code."""
    from fnmatch import fnmatchcase

    import torch
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from pytest_nlam_compat.adapters.probe import probe
    from pytest_nlam_compat.adapters.select import select
    from pytest_nlam_compat.references.format import Archive
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.references.store import Store

    try:
        wanted = SpecifierSet(spec, prereleases=True)
    except InvalidSpecifier:
        raise CompatError(
            "The releases can't be told from --release.",
            facts={"expected": "such as '>=0.5'", "found": spec},
            remedy="Correct it, or leave it out for all releases.",
        ) from None
    adapter = select(probe())
    store = Store.locate(url=None, offline=False)
    # It imports neural_lam, which only `probe` may find broken or absent.
    from pytest_nlam_compat.routes.subject import Subject

    subjects = []
    for release in wanted.filter(store.releases):
        archive = Archive(store.archive(release))
        for case in archive.cases:
            reference = Reference(archive, case)
            known = release <= adapter.current.release
            defect = adapter.cannot_run(reference.description["model"])
            if known and fnmatchcase(case, pattern) and defect is None:
                place = folder / reference.id
                place.mkdir()
                device = torch.device("cpu")
                subjects.append(Subject(reference, adapter, place, device, own))
    if not subjects:
        raise CompatError(
            "No reference is selected.",
            facts={"--release": spec or "any", "--case": pattern},
            remedy="Correct the options; without them all are selected.",
        )
    return subjects
