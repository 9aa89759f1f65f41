"""Start a migration of a repository: new NAME.

This writes a migration and its test, for you to fill in, next to the others of
the repository: in the folder of pytest's ini key nlam_compat_migrations, or in
tests/migrations. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
import re
from contextlib import suppress

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.commands import CommandResult
from pytest_nlam_compat.errors import CompatError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("new", metavar="new", choices=["new"])
    parser.add_argument(
        "name",
        metavar="NAME",
        help="words joined by hyphens, such as encoding-mlp",
    )
    parser.add_argument(
        "--since",
        metavar="RELEASE",
        type=Version,
        help="first release with the change (default: the next one)",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Write the two files, and say what to do next."""
    from pytest_nlam_compat.checks.pytest_config import read_setup
    from pytest_nlam_compat.migrations import writing

    name = _checked_name(arguments.name)
    since = str(arguments.since or _next_release())
    setup = read_setup()
    step, test = writing.write_new(writing.folder_for_new(setup), name, since)
    todo = [
        *([] if setup.source else [setup.advice()]),
        f"In {step.name}, write the reason, and the operations that move old "
        "weights\n   to where the new code looks for them.",
        "Run `pytest --nlam-compat`. It fails until all references older than "
        f"{since}\n   reproduce their outputs, and says what is missing.",
        f"In {test.name}, test the migration on a few weights.",
    ]
    wrote = [str(writing.from_here(file)) for file in (step, test)]
    return CommandResult(
        {"wrote": wrote, "next": todo},
        [
            *(f"Wrote {file}" for file in wrote),
            "Next:",
            *(f"{number}. {line}" for number, line in enumerate(todo, 1)),
        ],
    )


def _checked_name(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or (
        name.startswith("test-") or name == "conftest"
    ):
        raise CompatError(
            f"{name!r} can't be the name of a migration.",
            facts={
                "expected": "lower-case words joined by hyphens, such as "
                "encoding-mlp; not conftest, and not test-..."
            },
            remedy="Name what changes.",
        )
    return name


def _next_release() -> str:
    """Return the release that follows the installed one."""
    from importlib.metadata import PackageNotFoundError, version

    from pytest_nlam_compat.migrations.releases import RELEASES

    newest = Version(RELEASES[-1])
    with suppress(PackageNotFoundError, InvalidVersion):
        newest = max(newest, Version(version("neural-lam")))
    if newest.is_prerelease and newest.micro == 0:
        return newest.base_version
    return f"{newest.major}.{newest.minor + 1}.0"
