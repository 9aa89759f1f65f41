"""What a terminal shows of a run: its header, and the summary at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator

from pytest_nlam_compat.errors import counted, join_some
from pytest_nlam_compat.reports import causes
from pytest_nlam_compat.reports.matrix import render
from pytest_nlam_compat.reports.results import Results, matrix_of

# Labels of what was selected: among them a release, and where a repository
# keeps its migrations.
RECORDED_ROUTES = "native route compared with"
SOURCE = "migrations from"
NEWER = "left out, newer than the current code"
MIGRATIONS = "migrations of this repository"
UNREAD = "migrations that are not read"

_REMEDY = (
    "People load checkpoints without this plugin: convert these files in",
    "neural-lam's own loader (nlam-compat suggest --upstream prints the code),",
    "or give them up by name and reason in the ini key nlam_compat_given_up.",
)
_UNTIL_THEN = "Until then, this converts a file, or refuses it and says why:"

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
    yield from native_changes(results)
    found = [cause for cause in results["causes"] if cause["key"] in shown]
    yield from causes.render(found)
    if unread := results["selected"].get(UNREAD):
        yield from ("", *unread.splitlines())
    if found:
        yield _NEXT if any(each["migrated"] for each in found) else _VERBOSE


def native_changes(results: Results) -> Iterator[str]:
    """Print what a green native route may hide, a few lines for each reason."""
    release = results["selected"].get(RECORDED_ROUTES, "")
    source = results["selected"].get(SOURCE, "")
    missing: dict[tuple[str, bool], list[str]] = {}
    given_up: dict[tuple[str, bool], list[str]] = {}
    gained: list[str] = []
    for reference in results["references"]:
        for check in reference["checks"]:
            native, name = check["native"], reference["id"]
            if check["outcome"] != "passed":
                continue
            if reason := native.get("given up"):
                loaded = native.get("outcome") == "equal"
                given_up.setdefault((reason, loaded), []).append(name)
            elif steps := native.get("missing"):
                silent = native["outcome"] == "differs"
                missing.setdefault((steps, silent), []).append(name)
            elif "gained" in native:
                gained.append(name)
    for (steps, silent), references in missing.items():
        count = _checkpoints(references)
        yield ""
        yield (
            f"NEURAL-LAM ITSELF LOADS {count}, WITH WRONG OUTPUTS AND NO ERROR"
            if silent
            else f"NEURAL-LAM ITSELF CAN'T LOAD {count}"
        )
        yield f"  neural-lam {release} loads: {join_some(references, most=6)}"
        yield f"  They pass by migrations that only this plugin knows: {steps}"
        yield from (f"  {line}" for line in _REMEDY)
        if source:
            yield f"  {_UNTIL_THEN}"
            name = shlex.quote(source)
            yield f"    nlam-compat upgrade OLD.ckpt --migrations {name}"
    for (reason, loaded), references in given_up.items():
        what = "given up, but loaded" if loaded else "given up"
        yield ""
        yield f"{what}: {_checkpoints(references)} by {reason}"
        yield f"  in {join_some(references, most=6)}"
        if loaded:
            yield "  remove the entry from nlam_compat_given_up, or narrow it"
    if gained:
        yield ""
        yield f"gained: neural-lam's own loader loads {_checkpoints(gained)}"
        yield f"  that of neural-lam {release} does not: " + join_some(
            gained, most=6
        )


def _checkpoints(references: list[str]) -> str:
    return counted(len(references), "checkpoint")
