"""Download the reference archives, check their hashes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.commands import CommandResult, add_options
from pytest_nlam_compat.errors import CompatError, counted

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.references.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_options(parser, "--release", "--url", "--offline")
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="download into this folder instead of the user's cache"
        " (or NLAM_COMPAT_CACHE)",
    )


def run(arguments: argparse.Namespace) -> CommandResult:
    """Get the selected archives, and print a line for each as it comes."""
    from pytest_nlam_compat.references.store import Store

    store = Store.locate(
        url=arguments.url, cache=arguments.cache, offline=arguments.offline
    )
    releases = _selected(store, arguments.release)
    width = max(len(str(release)) for release in releases)
    fetched = []
    for release in releases:
        archive = store.obtain(release, progress=True)
        size = archive.path.stat().st_size
        # Flush: the next archive may take a while.
        print(
            f"{release!s:<{width}}  {size / 1000:9,.1f} kB  {archive.how}",
            flush=True,
        )
        fetched.append(
            {
                "release": str(release),
                "file": str(archive.path),
                "bytes": size,
                "how": archive.how,
            }
        )
        if archive.notice:
            print(archive.notice, file=sys.stderr)
    return CommandResult(
        {"archives": fetched, "source": store.description},
        [f"{counted(len(releases), 'archive')}: {store.description}"],
    )


def _selected(store: Store, specifier: str) -> list[Version]:
    from pytest_nlam_compat.references.registry import parse_specifier

    wanted = parse_specifier(specifier, "--release")
    releases = list(wanted.filter(store.releases))
    if not releases:
        known = ", ".join(map(str, store.releases)) or "none"
        raise CompatError(
            "There is no reference archive to fetch.",
            facts={"--release": specifier or "all", "releases": known},
            remedy="Correct --release, or leave it out for all releases.",
        )
    return releases
