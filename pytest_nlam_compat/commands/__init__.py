"""The subcommands of ``nlam-compat``: one in a module, and what they share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.migrations.migration import Migration

_OPTIONS: dict[str, dict[str, Any]] = {
    "--release": {
        "metavar": "SPEC",
        "default": "",
        "help": "only references of these releases, such as '>=0.5' (PEP 440)",
    },
    "--case": {
        "metavar": "GLOB",
        "default": "",
        "help": "only these cases, such as 'hi_lam*'",
    },
    "--url": {
        "help": "folder of the reference archives on another server"
        " (or NLAM_COMPAT_URL)",
    },
    "--offline": {
        "action": "store_true",
        "help": "download nothing, and fail if an archive is missing",
    },
    "--verify": {
        "action": "store_true",
        "help": "read all tensors first, and check their checksums",
    },
    "--allow": {
        "metavar": "CLASS",
        "action": "append",
        "default": [],
        "help": "accept this class besides the known ones, such as"
        " my_package.MyConfig",
    },
    "--migrations": {
        "metavar": "SOURCE",
        "help": "migrations of a repository, applied after those of neural-lam:"
        " the file or folder that pytest's ini key"
        " nlam_compat_migrations names. It is imported",
    },
    "--graph": {
        "metavar": "DIR",
        "type": Path,
        "help": "the graph directory that it was trained with",
    },
    "--datastore": {
        "metavar": "CONFIG",
        "type": Path,
        "help": "neural-lam's config.yaml of the dataset that it was trained"
        " on",
    },
}


class CommandResult(NamedTuple):
    """What a command returns: for programs, for people, for the shell.

    With ``--json``, `plain` is all that goes to stdout; otherwise `lines`.
    """

    plain: Mapping[str, object]
    lines: Iterable[str] = ()
    status: int = 0


def add_options(
    parser: argparse._ActionsContainer, *names: str, **more: Any
) -> None:
    """Add options that several commands have; `more` is for argparse."""
    for name in names:
        parser.add_argument(name, **_OPTIONS[name], **more)


def add_rewrite_options(
    parser: argparse.ArgumentParser, name: str, prefix: str, required: bool
) -> None:
    """Add the options of commands that rewrite a checkpoint.

    `required`: whether ``--statistics`` or ``--datastore`` must be passed.
    """
    from pytest_nlam_compat.migrations.releases import RELEASES

    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "-o",
        dest="output",
        metavar="NEW",
        type=Path,
        help=f"the new file (default: {prefix}{name} in the same folder)",
    )
    output.add_argument(
        "--in-place",
        action="store_true",
        help=f"replace the file, and keep the old one as {name}.bak",
    )
    add_options(parser, "--allow")
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="R",
        choices=RELEASES,
        help="the release that wrote it, if that can't be detected; of a "
        "development install, the release before it",
    )
    dataset = parser.add_mutually_exclusive_group(required=required)
    dataset.add_argument(
        "--statistics",
        metavar="FILE",
        type=Path,
        help="statistics of the dataset that it was trained on, from"
        " nlam-compat statistics",
    )
    add_options(dataset, "--datastore")


def read_migrations(source: str | None) -> tuple[Migration, ...]:
    """Import the migrations that ``--migrations`` names; none without it."""
    if source is None:
        return ()
    from pytest_nlam_compat.migrations.repository import read_steps

    # As for python -m pytest: they may import what is in this folder.
    sys.path.append(str(Path.cwd()))
    steps = read_steps(source)
    if not steps:
        raise CompatError(
            "There are no migrations.",
            facts={"--migrations": source},
            remedy="Pass what pytest's ini key nlam_compat_migrations names.",
        )
    return tuple(steps)


def path_of(text: str) -> Path:
    """Parse an argument that is a path: an empty one is none, not ``.``."""
    if not text:
        raise argparse.ArgumentTypeError(
            "the path is empty, as of a shell variable that is not set"
        )
    return Path(text)


def say(what: str) -> None:
    """Print progress where it does not mix with the result."""
    print(what, file=sys.stderr, flush=True)
