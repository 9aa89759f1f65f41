"""``nlam-compat fetch``: download the reference archives beforehand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.references.store import Store

NAME = "fetch"
HELP = "Download the reference archives beforehand, and check their hashes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--release",
        metavar="SPEC",
        default="",
        help="only these releases of neural-lam, such as '>=0.5'",
    )
    parser.add_argument(
        "--url",
        help="download from this folder on another server (or NLAM_COMPAT_URL)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="download into this folder instead of the user's cache"
        " (or NLAM_COMPAT_CACHE)",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="download nothing, and fail if an archive is missing",
    )


def run(arguments: argparse.Namespace) -> int:
    """Get the selected archives, and print a line for each.

    Raises
    ------
    CompatError
        If no release is selected, or if an archive can't be obtained.
    """
    from pytest_nlam_compat.references.store import Store

    store = Store.locate(
        url=arguments.url, cache=arguments.cache, offline=arguments.offline
    )
    releases = _selected(store, arguments.release)
    width = max(len(str(release)) for release in releases)
    for release in releases:
        archive = store.obtain(release, progress=True)
        size = archive.path.stat().st_size / 1000
        # Flush: the next archive may take a while.
        print(
            f"{release!s:<{width}}  {size:9,.1f} kB  {archive.how}", flush=True
        )
        if archive.notice:
            print(archive.notice, file=sys.stderr)
    count = "1 archive" if len(releases) == 1 else f"{len(releases)} archives"
    print(f"{count}: {store.description}")
    return 0


def _selected(store: Store, specifier: str) -> list[Version]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        # Never leave out a pre-release that has references.
        wanted = SpecifierSet(specifier, prereleases=True)
    except InvalidSpecifier:
        raise CompatError(
            "--release is not a version specifier.",
            facts={
                "expected": "a version specifier (PEP 440), such as '>=0.5'"
                " or '==0.6.0'",
                "found": specifier,
            },
            remedy="Correct it, or leave it out for all releases.",
        ) from None
    releases = list(wanted.filter(store.releases))
    if not releases:
        known = ", ".join(map(str, store.releases)) or "none"
        raise CompatError(
            "There is no reference archive to fetch.",
            facts={"--release": specifier or "all", "releases": known},
            remedy="Correct --release, or leave it out for all releases.",
        )
    return releases
