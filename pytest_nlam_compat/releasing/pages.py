"""Pages that name every release: ``docs/matrix.md`` and the changelog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.version import Version

from pytest_nlam_compat.references import native_routes, registry
from pytest_nlam_compat.references.release_archive import ReleaseArchive

_INTRODUCTION = """\
# Which checkpoints load where

<!-- Written by `nlam-compat release`: changes are lost. -->

Each release of neural-lam wrote reference checkpoints, one for each
[case](references.md#cases). A route is right if it gives the outputs that the
release computed.
"""
_NATIVE = """\
## By neural-lam's own loader

How many references of a release (row) the loader of a release (column) loads by
itself, with the right outputs. Older loaders are not tried on newer files.
"""
_CASES = """\
## Case by case, under neural-lam {newest}

Every reference gives the right outputs after migration (`nlam-compat upgrade`).
native: without it, too. migrated: only then. void: the release can't run the
case.
"""


def matrix_page(fixtures: Path) -> str:
    """Return ``docs/matrix.md``: all releases, both routes.

    `fixtures` is the folder with the registry, the archives and the native
    routes.
    """
    archives = {
        release: ReleaseArchive(fixtures / registry.archive_name(release))
        for release in registry.read(fixtures / registry.FILE_NAME)
    }
    routes = native_routes.read(fixtures / native_routes.FILE_NAME)
    newest = max(routes)
    parts = [
        _INTRODUCTION,
        _NATIVE,
        _table(_native_rows(archives, routes)),
        _CASES.format(newest=newest),
        _table(_case_rows(archives, routes[newest])),
        "## Why cases are void\n",
        "".join(f"- {line}\n" for line in _reasons(archives)),
    ]
    for archive in archives.values():
        archive.close()
    return "\n".join(parts)


def _native_rows(
    archives: Mapping[Version, ReleaseArchive],
    routes: Mapping[Version, frozenset[str]],
) -> Iterator[list[str]]:
    yield ["written by", *(f"loaded by {loader}" for loader in routes)]
    for release, archive in archives.items():
        ids = {f"{release}-{case}" for case in archive.cases}
        yield [
            str(release),
            *(
                f"{len(ids & loads)} of {len(ids)}" if loader >= release else ""
                for loader, loads in routes.items()
            ),
        ]


def _case_rows(
    archives: Mapping[Version, ReleaseArchive], loads: frozenset[str]
) -> Iterator[list[str]]:
    def cell(archive: ReleaseArchive, case: str) -> str:
        if case in archive.void:
            return "void"
        if case not in archive.cases:
            return ""
        native = f"{archive.release}-{case}" in loads
        return "native" if native else "migrated"

    yield ["case", *map(str, archives)]
    cases = {case for a in archives.values() for case in (*a.cases, *a.void)}
    for case in sorted(cases):
        yield [f"`{case}`", *(cell(a, case) for a in archives.values())]


def _table(rows: Iterator[list[str]]) -> str:
    head, *others = (f"| {' | '.join(row)} |\n" for row in rows)
    rule = "|" + " --- |" * (head.count("|") - 1) + "\n"
    return "".join([head, rule, *others])


def _reasons(archives: Mapping[Version, ReleaseArchive]) -> list[str]:
    """Say why cases are void, each reason once."""
    reasons: dict[str, list[str]] = {}
    for release, archive in archives.items():
        for case, reason in archive.void.items():
            reasons.setdefault(reason, []).append(f"`{release}-{case}`")
    return [f"{', '.join(ids)}: {reason}" for reason, ids in reasons.items()]


def with_change(changelog: str, line: str) -> str:
    """Return a changelog with one line more under what is not released yet.

    The format is that of Keep a Changelog, where additions come first.
    """
    before, heading, after = changelog.partition("## [Unreleased]\n")
    added = "\n### Added\n\n"
    return f"{before}{heading}{added}{line}\n{after.removeprefix(added)}"
