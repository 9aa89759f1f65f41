"""Write docs/cli.md from the parser, when this is run as a script.

Tables, since the layout of argparse's own help depends on Python.
"""

import argparse
from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path

from pytest_nlam_compat.cli import COMMANDS, add_arguments

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HEAD = """\
# Command line

`--help` of each command shows the same as this page, which is written from
the parser (`python tests/commands/reference_page.py`).

## Exit status

| status | meaning |
| --- | --- |
| 0 | all is well: done, and nothing was found that fails |
| 1 | something failed or was refused, or is lacking; the output says what |
| 2 | wrong usage: the arguments can't be parsed |
| 130 | interrupted by Ctrl-C; nothing half done is left |
| 141 | the reader of the output has gone, such as `head` |
| 143 | ended by a SIGTERM, as of a batch system; nothing half done is left |

`pytest --nlam-compat` has the statuses of pytest: 0 if everything passed, 1 if
a check failed, 4 if the checks could not start.

## JSON

Every command has `--json`. Then one JSON object is all that goes to stdout;
progress goes to stderr. An error is an object too, with the keys `problem`,
`facts` and `remedy`, and the exit status is the same as without `--json`.

## Completion

Install the package as `pytest-nlam-compat[completion]`, which adds
[argcomplete](https://kislyuk.github.io/argcomplete/), and put
`eval "$(register-python-argcomplete nlam-compat)"` into `~/.bashrc` or
`~/.zshrc`. For fish it is
`register-python-argcomplete --shell fish nlam-compat | source`.
"""


def page() -> str:
    """Return the text of the page."""
    lines = [HEAD]
    for audience, names in groupby(COMMANDS, COMMANDS.__getitem__):
        lines.append(f"## For {audience}\n")
        for name in names:
            module = import_module(f"pytest_nlam_compat.commands.{name}")
            parser = argparse.ArgumentParser(prog=f"nlam-compat {name}")
            add_arguments(parser, module)
            described = " ".join(module.__doc__.split())
            lines += [f"### nlam-compat {name}\n", described, ""]
            lines += [*_tables(parser), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    rows = []
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            rows.append(f"| {_names(action)} | {action.help or ''} |")
    if rows:
        yield from ("| argument | meaning |", "| --- | --- |", *rows)


def _names(action: argparse.Action) -> str:
    takes = "" if action.nargs == 0 else f" {_metavar(action)}"
    if not action.option_strings:
        return f"`{takes.strip()}`"
    return ", ".join(f"`{name}{takes}`" for name in action.option_strings)


def _metavar(action: argparse.Action) -> str:
    if action.metavar is None and action.choices:
        return "\\|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
