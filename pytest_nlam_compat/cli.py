"""The console script ``nlam-compat``: each subcommand is a module.

A subcommand is a module of `pytest_nlam_compat.commands` with ``HELP``,
``add_arguments(parser)`` and ``run(arguments)``, which returns the exit status.
Heavy imports are inside ``run``, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from pytest_nlam_compat import __version__
from pytest_nlam_compat.errors import CompatError, clear_import_errors
from pytest_nlam_compat.reports.terminal import coloured

COMMANDS = (
    "bisect",
    "check",
    "fetch",
    "inspect",
    "migration",
    "pin",
    "record",
    "report",
    "release",
    "stamp",
    "statistics",
    "status",
    "suggest",
    "upgrade",
    "verify",
)
"""The modules of the subcommands, in the order of the help."""

FAILED = 1
INTERRUPTED = 128 + 2  # what a shell reports for SIGINT
PIPE_CLOSED = 128 + 13  # and for SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand with the arguments of the process by default.

    Returns
    -------
    int
        The exit status: that of the subcommand, 1 after an error, 130 after an
        interrupt, 141 if the pipe of the output is closed.
    """
    # What the encoding of a terminal lacks is no reason to fail.
    with suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    arguments = argparse.Namespace()
    try:
        try:
            given = sys.argv[1:] if argv is None else argv
            with clear_import_errors():
                arguments = _parser(given[:1]).parse_args(given)
                status: int = arguments.run(arguments)
        finally:
            # Flush here, where a closed pipe can be handled.
            sys.stdout.flush()
    except CompatError as error:
        return _fail(error, arguments)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more when it exits, and that must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        # Such as a name that is too long for the file system.
        return _fail(_of_the_system(error), arguments)
    return status


def _fail(error: CompatError, arguments: argparse.Namespace) -> int:
    """Print an error: as JSON to stdout where JSON was asked for."""
    if getattr(arguments, "json", False):
        print(json.dumps(error.plain(), indent=1))
        sys.stdout.flush()
    else:
        print(coloured(str(error), sys.stderr), file=sys.stderr)
    return FAILED


def _of_the_system(error: OSError) -> CompatError:
    return CompatError(
        "The system can't use a file.",
        facts={
            "file": error.filename or "unknown",
            "cause": error.strerror or error,
        },
        remedy="Check its name, its permissions and the free space, and try "
        "again.",
    )


def _parser(first: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser, with only the subcommand that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="nlam-compat",
        description="Keep neural-lam checkpoints of every release usable.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    # Importing the others would take too long.
    wanted = [module for module in COMMANDS if module in first]
    for module in wanted or COMMANDS:
        command = import_module(f"pytest_nlam_compat.commands.{module}")
        subparser = commands.add_parser(
            module, help=command.HELP, description=command.HELP
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser
