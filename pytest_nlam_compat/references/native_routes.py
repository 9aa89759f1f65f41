"""Which checkpoints each release's own loader loads, with the right outputs.

A line of the file names a release and a reference that it loaded::

    0.7.0 0.5.0-graph_lam

`nlam-compat record` writes the lines of a release; they are not edited by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.registry import read_list

FILE_NAME = "native_routes.txt"
_HEADER = """\
# What each release of neural-lam loads with its own loader alone, with the
# right outputs. Written by `nlam-compat record`.
"""


def read(path: Path) -> dict[Version, frozenset[str]]:
    """Return the ids of the references that each release loads.

    Raises
    ------
    CompatError
        The file can't be read, or a line names no release and reference.
    """
    routes: dict[Version, set[str]] = {}
    for line in read_list(path, "native routes").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            release, reference = line.split()
            routes.setdefault(Version(release), set()).add(reference)
        except ValueError:
            raise CompatError(
                f"A line of {path} is invalid.",
                facts={
                    "expected": "a release and a reference, such as "
                    "'0.7.0 0.5.0-graph_lam'",
                    "found": line,
                },
                remedy="Restore the file from git, or install "
                "pytest-nlam-compat again.",
            ) from None
    return {release: frozenset(ids) for release, ids in routes.items()}


def replace(path: Path, release: Version, references: Iterable[str]) -> None:
    """Write the references that a release loads; keep those of the others.

    Raises
    ------
    CompatError
        The file is there and can't be read.
    """
    routes: dict[Version, Iterable[str]] = {}
    if path.exists():
        routes |= read(path)
    routes[release] = references
    lines = [
        f"{one} {name}\n"
        for one in sorted(routes)
        for name in sorted(routes[one])
    ]
    path.write_text(_HEADER + "".join(lines), encoding="utf-8", newline="\n")


def expected_of(
    routes: Mapping[Version, frozenset[str]], release: Version
) -> tuple[Version | None, frozenset[str]]:
    """Return what code that is detected as a release has to load.

    That is what the newest recorded release which is not above it loads: that
    release, None if there is none, and the ids of references.
    """
    newest = max((one for one in routes if one <= release), default=None)
    return newest, frozenset() if newest is None else routes[newest]
