"""``nlam-compat suggest``: the step that mends what fails, already proved."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.selection import Selection
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

NAME = "suggest"
HELP = "Search for the migration that makes failing references pass."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--release",
        metavar="SPEC",
        help="only references of these releases, such as '>=0.5' (PEP 440)",
    )
    parser.add_argument(
        "--case",
        metavar="GLOB",
        help="only these cases, such as 'hi_lam*'",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda", "auto"),
        help="where models are run (default: cpu)",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        help="folder of the reference archives on another server",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="use the references that are there, download nothing",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="file *.py that migrations are added to (default: the one of "
        "pytest's ini key nlam_compat_migrations, or in its folder; else "
        "tests/migrations/suggested.py)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="add what is verified to that file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Search, print what was found, and write it if asked to.

    References, adapter and the steps there are come as in a run of
    ``pytest --nlam-compat`` here.

    Parameters
    ----------
    arguments : Namespace
        With ``release``, ``case``, ``device``, ``url``, ``offline``, ``file``
        and ``write``.

    Returns
    -------
    int
        0 if every reference passes or is mended by a verified step, 1 if not.

    Raises
    ------
    CompatError
        There is no code, reference or readable file of steps.
    """
    with _without_prefix():
        from pytest_nlam_compat.checks.selection import load_selection

        selection = load_selection(_options(arguments))
    from pytest_nlam_compat.migrations import writing
    from pytest_nlam_compat.suggest.suggest import suggest_steps

    destination = writing.destination(selection.setup, arguments.file)
    own = (*selection.migrations, *destination.unread)
    selection = replace(selection, migrations=own)
    count = len(selection.references)
    print(f"{count} reference{'s' if count > 1 else ''}", flush=True)
    if own:
        print(
            f"{len(own)} step{'s' if len(own) > 1 else ''} of this repository "
            "applied already",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = suggest_steps(_subjects(selection, folder), folder / "search")
    print(found.report())
    if found.writable:
        file = writing.from_here(destination.file)
        if arguments.write:
            steps = [step.python() for step in found.steps]
            writing.add_to(destination.file, steps)
            print(f"Written to {file}.")
        else:
            print(f"Put it into {file}, or run the command with --write.")
        if destination.advice:
            print(destination.advice)
    return int(not found.complete)


def _options(arguments: argparse.Namespace) -> list[str]:
    """Say it in the options of pytest; what is not given is left to it."""
    given = {
        name: getattr(arguments, name)
        for name in ("release", "case", "device", "url")
    }
    options = [
        f"--nlam-compat-{name}={value}"
        for name, value in given.items()
        if value is not None
    ]
    return [*options, *["--nlam-compat-offline"] * arguments.offline]


@contextmanager
def _without_prefix() -> Iterator[None]:
    """Name options in errors as this command calls them."""
    try:
        yield
    except CompatError as error:

        def ours(text: object) -> str:
            return str(text).replace("--nlam-compat-", "--")

        raise CompatError(
            ours(error.what),
            facts={ours(k): ours(v) for k, v in error.facts.items()},
            remedy=ours(error.remedy),
        ) from error


def _subjects(selection: Selection, folder: Path) -> list[ReferenceUnderTest]:
    """Put the selected references before the current code."""
    subjects = []
    for reference in selection.references:
        place = folder / reference.id
        place.mkdir()
        subjects.append(selection.subject(reference, place))
    return subjects
