"""What a terminal shows of a run: its header, and the summary at its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from pytest_nlam_compat.errors import counted
from pytest_nlam_compat.reports import causes
from pytest_nlam_compat.reports.matrix import render
from pytest_nlam_compat.reports.native_changes import render_changes
from pytest_nlam_compat.reports.results import Results, matrix_of

# Labels of what was selected.
NEWER = "left out, newer than the current code"
MIGRATIONS = "migrations of this repository"
UNREAD = "migrations that are not read"

_VERBOSE = "-v shows each check"
_NEXT = "next: `nlam-compat suggest` searches for a migration; " + _VERBOSE


def header(results: Results) -> list[str]:
    """Name code, device and references; nothing if they are not known."""
    current, settings = results["current"], results["settings"]
    if not current:
        return []
    release, selected = current["release"], results["selected"]
    installed = ""
    if current["version"] != release:
        installed = f", installed as {current['version']}"
    device = settings["device"]
    if "GPU" in settings:
        device = f"cuda ({settings['GPU']})"
    checked = [each for each in results["references"] if not each["void"]]
    releases = ", ".join(dict.fromkeys(each["release"] for each in checked))
    void = len(results["references"]) - len(checked)
    shard = "".join(f"shard {each}: " for each in results["shards"])
    lines = [
        f"neural-lam {release} (detected by {current['detected by']}"
        f"{installed}) at {current['path']}",
        f"torch {settings['torch']} on {device}",
        f"{shard}{counted(len(checked), 'reference')} of {releases}, from "
        f"{results['plugin']['references']}",
    ]
    if NEWER in selected:
        lines.append(f"{NEWER}: {selected[NEWER]}")
    if void:
        lines.append(f"{counted(void, 'void case')}, see the end")
    if MIGRATIONS in selected:
        ids = selected[MIGRATIONS]
        count = counted(ids.count(",") + 1, "migration")
        lines.append(f"{count} of this repository: {ids}")
    return [f"nlam-compat: {line}" for line in [*lines, *results["notices"]]]


def summary(
    results: Results,
    shown: Collection[str],
    width: int,
    *,
    merge: bool,
    paint: Callable[[str, str], str],
) -> Iterator[str]:
    """Print the matrix, what its native route may hide, and the causes.

    Only the causes with a key in `shown`. See `matrix.render` for the others.
    Nothing if no reference was checked.
    """
    cells = matrix_of(results)
    if not any(cell.checked for cell in cells.values()):
        return
    yield from render(cells, width, merge=merge, paint=paint)
    yield from render_changes(results)
    found = [cause for cause in results["causes"] if cause["key"] in shown]
    yield from causes.render(found)
    if unread := results["selected"].get(UNREAD):
        yield from ("", *unread.splitlines())
    if found:
        yield _NEXT if any(each["migrated"] for each in found) else _VERBOSE
