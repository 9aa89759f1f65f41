"""Search for the migration that fixes what fails."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.adapters.silence import silenced
from pytest_nlam_compat.commands import CommandResult, add_options
from pytest_nlam_compat.errors import CompatError, counted

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.selection import Selection
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_options(parser, "--release", "--case", "--url", "--offline")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda", "auto"),
        help="where models are run (default: cpu)",
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
        help="add the verified migrations to that file",
    )
    parser.add_argument(
        "--width-specific",
        action="store_true",
        help="accept steps that fit the widths of the references only",
    )
    parser.add_argument(
        "--upstream",
        action="store_true",
        help="print the steps as code for neural-lam's own loader, too",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Search, return what was found, and write it if asked to.

    References, adapter and migrations are those of ``pytest --nlam-compat`` in
    the working directory. The exit status is 0 if every reference passes or is
    fixed by a verified step.
    """
    with _without_prefix(), silenced():
        from pytest_nlam_compat.checks.newer_references import NewerReferences
        from pytest_nlam_compat.checks.selection import load_selection

        selection = load_selection(_options(arguments))
    from pytest_nlam_compat.adapters.probe import upstream_registry
    from pytest_nlam_compat.migrations import writing
    from pytest_nlam_compat.migrations.loader_code import loader_code
    from pytest_nlam_compat.suggest.suggester import Suggester

    destination = writing.destination(selection.setup, arguments.file)
    own = (*selection.migrations, *destination.unread)
    selection = replace(selection, migrations=own)
    print(counted(len(selection.references), "reference"), flush=True)
    if own:
        applied = counted(len(own), "migration")
        print(f"{applied} of this repository applied", flush=True)
    with tempfile.TemporaryDirectory() as name, silenced(), _progress() as say:
        folder = Path(name)
        stored = NewerReferences(selection)
        suggester = Suggester(
            folder / "search",
            find_newer=stored,
            find_others=stored.others,
            progress=say,
        )
        found = suggester.suggest(
            _subjects(selection, folder),
            width_specific=arguments.width_specific,
        )
    plain, lines = found.plain(), [found.report()]
    status = int(not found.complete)
    file = writing.from_here(destination.file)
    wrote = arguments.write and found.writable
    if wrote:
        texts = [step.python() for step in found.steps]
        writing.add_to(destination.file, texts)
        plain["written_to"] = str(file)
        lines.append(f"Written to {file}.")
    in_history = (
        found.writable
        and not arguments.write
        and _is_ours(selection.setup.root)
    )
    if in_history:
        lines.append(
            "Add it to migrations/history.py, and import what it uses."
        )
    elif destination.advice and (wrote or destination.unread):
        lines.append(destination.advice)
    if arguments.upstream and (found.writable or (own and found.complete)):
        registry = upstream_registry()
        steps = [*own, *(step.migration for step in found.steps)]
        code = loader_code(steps, registry.newest if registry else None)
        plain["upstream"] = code
        lines.append(code.removesuffix("\n"))
    if in_history or not found.writable:
        return CommandResult(plain, lines, status)
    again = shlex.join(["nlam-compat", "suggest", *_given(arguments)])
    plain["next"] = [
        f"$EDITOR {file}" if arguments.write else f"{again} --write",
        "pytest --nlam-compat",
    ]
    plain["instead"] = f"{again} --upstream"
    lines += ["next:", *(f"  {command}" for command in plain["next"])]
    lines += [f"or, instead of {file}:", f"  {plain['instead']}"]
    return CommandResult(plain, lines, status)


def _is_ours(root: Path) -> bool:
    """Tell whether a repository is this project, whose history has them."""
    return root.resolve() == Path(__file__).resolve().parents[2]


def _given(arguments: argparse.Namespace) -> list[str]:
    """Return the arguments that say what is searched for, and where."""
    from pytest_nlam_compat.references.store import without_secrets

    given = {**vars(arguments)}
    given["url"] = arguments.url and without_secrets(arguments.url)
    found = []
    for name in ("release", "case", "device", "url", "file"):
        if given[name]:
            found += [f"--{name}", str(given[name])]
    flags = ("offline", "width_specific")
    return found + [f"--{n.replace('_', '-')}" for n in flags if given[n]]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on stderr what is being done: one line on a terminal."""
    terminal = sys.stderr.isatty()

    def say(text: str) -> None:
        start, end = ("\r\x1b[K", "") if terminal else ("", "\n")
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)

    yield say
    if terminal:
        say("")


def _options(arguments: argparse.Namespace) -> list[str]:
    """Return the options of pytest for the arguments that are given."""
    options = [
        f"--nlam-compat-{name}={value}"
        for name in ("release", "case", "device", "url")
        if (value := getattr(arguments, name))
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
    """Return the selected references in front of the current code."""
    subjects = []
    for reference in selection.migrated:
        place = folder / reference.id
        place.mkdir()
        subjects.append(selection.subject(reference, place))
    return subjects
