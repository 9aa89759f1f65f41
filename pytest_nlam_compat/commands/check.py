"""Load a checkpoint with neural-lam, and roll it out.

The installed neural-lam's own loader has to load it strictly. This runs the
pickle of the file, which must name only known classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_nlam_compat.commands import (
    CommandResult,
    add_options,
    read_migrations,
    say,
)
from pytest_nlam_compat.reports.terminal import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", type=Path)
    add_options(parser, "--graph", "--datastore", "--allow", "--migrations")


def run(arguments: argparse.Namespace) -> CommandResult:
    """Check a file, and return what was found."""
    from pytest_nlam_compat.upgrade.check import check, check_lines

    own = read_migrations(arguments.migrations)
    with progress("Loading neural-lam"):
        result = check(
            arguments.file,
            arguments.graph,
            arguments.datastore,
            tuple(arguments.allow),
            say,
            own,
            arguments.migrations,
        )
    return CommandResult(result, check_lines(result))
