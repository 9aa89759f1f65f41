"""The console script ``nlam-compat``: each subcommand is a module.

Each module of `pytest_nlam_compat.commands` has

- a docstring, which is its help; the first line stands in the list of commands
  and is at most 55 characters long;
- ``add_arguments(parser)``, for those besides ``--json``;
- ``run(arguments)``, which returns a `CommandResult`. What it prints meanwhile
  is progress: with ``--json`` it goes to stderr.

Heavy imports are inside ``run``, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO

from pytest_nlam_compat import __version__
from pytest_nlam_compat.commands import CommandResult, path_of
from pytest_nlam_compat.errors import CompatError, clear_import_errors
from pytest_nlam_compat.reports.terminal import coloured

COMMANDS = {
    "check": "forecasters",
    "inspect": "forecasters",
    "stamp": "forecasters",
    "statistics": "forecasters",
    "upgrade": "forecasters",
    "bisect": "contributors",
    "migration": "contributors",
    "report": "contributors",
    "suggest": "contributors",
    "record": "maintainers",
    "release": "maintainers",
    "status": "maintainers",
    "pin": "centres",
    "verify": "centres",
    "fetch": "anyone",
}
"""The modules of the subcommands, and who needs them, as the help shows."""

FAILED = 1
WRONG_USAGE = 2
PIPE_CLOSED = 128 + 13  # what a shell reports for SIGPIPE

EXIT_STATUS = """\
exit status: 0 all is well, 1 something failed or was refused, 2 wrong usage,
130 interrupted, 141 the reader of the output has gone, 143 terminated
"""


class UsageError(CompatError):
    """The arguments can't be parsed; the text is that of argparse."""

    def __str__(self) -> str:
        return f"{self.facts['usage']}\n{self.what}"


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", Path, path_of)

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"{self.prog}: error: {message}",
            facts={"usage": self.format_usage().rstrip()},
            remedy=f"{self.prog} --help lists the arguments.",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand with the arguments of the process by default.

    Returns its exit status, one of those in `EXIT_STATUS`.
    """
    given = sys.argv[1:] if argv is None else argv
    if argv is None:
        _open_closed_streams()
        _end_as_interrupted()
    # What the encoding of a terminal lacks is no reason to fail.
    with suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            return _run(given)
        except KeyboardInterrupt as error:
            _tell_interrupt("--json" in given)
            number = error.args[0] if error.args else signal.SIGINT
            if argv is None:
                # Libraries that were stopped in the midst of something print
                # tracebacks when Python shuts down.
                sys.stdout.flush()
                os._exit(128 + number)
            return 128 + number
        finally:
            # Flush here, where a closed pipe can be handled.
            sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout, sys.stderr)
        return PIPE_CLOSED
    except OSError as error:
        remedy = "Redirect it to where there is room."
        return _show_elsewhere(error, remedy)


def _open_closed_streams() -> None:
    """Keep files of users from getting the number of stdout or stderr."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # A result that can't be shown is an error, unlike an error.
            flags = os.O_RDONLY if name == "stdout" else os.O_RDWR
            os.dup2(os.open(os.devnull, flags), number)
            if name != "stdin":
                setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _discard(*streams: TextIO) -> None:
    """Discard what is printed: Python flushes once more when it exits."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end_as_interrupted() -> None:
    """Clean up after SIGTERM and SIGHUP too, unless they are ignored."""

    def interrupt(number: int, _: object) -> NoReturn:
        # Batch systems send several, and one is enough.
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


def _tell_interrupt(as_json: bool) -> None:
    if as_json:
        remedy = "Run the command again."
        _show(_json(CompatError("Interrupted.", remedy=remedy).plain()))
    else:
        print("Interrupted.", file=sys.stderr)


def _run(given: Sequence[str]) -> int:
    """Run a subcommand, and print its result or its error."""
    as_json = "--json" in given
    try:
        with clear_import_errors():
            parser = _parser(given[:1])
            if "_ARGCOMPLETE" in os.environ:
                import argcomplete

                argcomplete.autocomplete(parser)
            arguments = parser.parse_args(given)
            as_json = arguments.json  # also where it was abbreviated
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                result: CommandResult = arguments.run(arguments)
    except CompatError as failure:
        error = failure
    except BrokenPipeError:
        raise
    except OSError as failure:
        # Such as a name that is too long for the file system.
        error = _of_the_system(failure)
    except MemoryError:
        error = CompatError(
            "There is not enough memory.",
            remedy="Close other programs, or use a machine with more.",
        )
    else:
        lines = coloured("\n".join(result.lines), sys.stdout)
        return _show(_json(result.plain) if as_json else lines) or result.status
    if as_json:
        _show(_json(error.plain()))
    else:
        print(coloured(str(error), sys.stderr), file=sys.stderr)
    return WRONG_USAGE if isinstance(error, UsageError) else FAILED


def _json(plain: Mapping[str, object]) -> str:
    return json.dumps(plain, indent=1)


def _show(text: str) -> int:
    """Print to stdout, or else to stderr; return the exit status of that."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _show_elsewhere(error, text)
    return 0


def _show_elsewhere(error: OSError, text: str) -> int:
    _discard(sys.stdout)
    failure = CompatError(
        "The command has ended, but stdout does not take its output.",
        facts={"cause": error.strerror or error},
        remedy=text,
    )
    print(failure, file=sys.stderr)
    return FAILED


def _of_the_system(error: OSError) -> CompatError:
    cause = error.strerror or error
    if isinstance(error, FileExistsError) and os.path.isfile(error.filename):
        cause = f"{cause}, and is not a directory"
    return CompatError(
        "The system can't use a file.",
        facts={
            **({"file": error.filename} if error.filename else {}),
            "cause": cause,
        },
        remedy="Check its name, its permissions and the free space, and try "
        "again.",
    )


def _parser(first: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser, with only the subcommand that the arguments name."""
    # Importing the others would take too long.
    names = [name for name in COMMANDS if name in first] or COMMANDS
    modules = {
        name: import_module(f"pytest_nlam_compat.commands.{name}")
        for name in names
    }
    parser = _Parser(
        prog="nlam-compat",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description=_overview(modules),
        epilog=f"nlam-compat COMMAND --help says more.\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    # The usage names them, and the list of commands needs the space.
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {__version__}",
        help=argparse.SUPPRESS,
    )
    commands = parser.add_subparsers(
        prog="nlam-compat",
        metavar="COMMAND",
        required=True,
        help=argparse.SUPPRESS,
    )
    for name, module in modules.items():
        subparser = commands.add_parser(
            name, description=module.__doc__, epilog=EXIT_STATUS
        )
        add_arguments(subparser, module)
        subparser.set_defaults(run=module.run)
    return parser


def add_arguments(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    """Declare the arguments of a subcommand, and the one that all have."""
    module.add_arguments(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object, also for an error; the rest goes to "
        "stderr",
    )


def _overview(modules: Mapping[str, ModuleType]) -> str:
    """Return a line for each command, grouped by who needs it."""
    lines, before = [], ""
    for name, module in modules.items():
        audience = COMMANDS[name]
        shown = "" if audience == before else audience
        before = audience
        summary = (module.__doc__ or "").partition("\n")[0]
        lines.append(f"{shown:<13} {name:<11} {summary}")
    return "\n".join(lines)
