"""The results of a run as data: what a report file holds and is drawn from.

The classes name what ``results-1.schema.json`` beside this module describes;
docs/reports.md explains it. A results file is such a dictionary as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.errors import counted
from pytest_nlam_compat.reports.matrix import Cell, percent

FORMAT = "pytest-nlam-compat results"
VERSION = 1

NOT_RUN = "not run"
FAILED = frozenset({"failed", "error"})
"""Outcomes of a check that failed, or whose setup or teardown did."""


class ErrorMap(TypedDict):
    """Golden and error of one variable at one step, at each grid node.

    Those of the entry that uses the largest share of its tolerance. Values are
    standardized, as the model returns them; differences are obtained minus
    golden; what is not finite is null.
    """

    output: str
    variable: str
    item: int
    step: int
    node: int
    obtained: float | None
    expected: float
    grid: list[int]  # nodes along x and y; nodes are in x-major order
    golden: list[float]
    difference: list[float | None]
    # Of each step: the largest difference of the variable, over its spread.
    growth: list[float | None]
    allowed: float  # over the spread of the variable


class Check(TypedDict):
    """What one check of one reference, or of a registry, has found."""

    name: str
    id: str
    outcome: str
    seconds: float
    # Of each tolerance, by name; null where an output is not finite.
    shares: dict[str, float | None]
    difference: float | None  # largest of an output, over its spread
    native: dict[str, str]  # what the native route shows, by label
    left_out: list[str]
    message: str
    cause: str  # key of one of `causes`; empty if none was found
    map: ErrorMap | None


class ReferenceResult(TypedDict):
    """A case of a release; where `void` has a reason, it has no checks."""

    id: str
    release: str
    case: str
    void: str
    recorded: dict[str, str]
    checks: list[Check]


class CauseResult(TypedDict):
    """Why checks failed; one for each change of the code."""

    key: str
    text: str
    explanation: str
    source: str
    migrated: bool
    suggestion: list[str]
    checks: list[str]
    references: list[str]
    modules: list[str]
    failures: int


class Results(TypedDict):
    """All that a report shows."""

    format: str
    version: int
    # Why the run is not whole; empty if each selected check has an outcome.
    incomplete: str
    exit_status: int
    started: str
    seconds: float
    shards: list[str]  # such as 1/4; empty if the run was not split
    plugin: dict[str, str]
    current: dict[str, str]
    settings: dict[str, str]
    selected: dict[str, str]
    notices: list[str]
    references: list[ReferenceResult]
    other_checks: list[Check]
    causes: list[CauseResult]


def no_results() -> Results:
    """Return the results of a run that knows nothing of what it checks."""
    return Results(
        format=FORMAT,
        version=VERSION,
        incomplete="",
        exit_status=0,
        started="",
        seconds=0.0,
        shards=[],
        plugin={"version": __version__},
        current={},
        settings={},
        selected={},
        notices=[],
        references=[],
        other_checks=[],
        causes=[],
    )


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it: None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def has_failed(checks: Iterable[Check]) -> bool:
    """Tell whether one of them failed."""
    return any(check["outcome"] in FAILED for check in checks)


def all_checks(results: Results) -> Iterator[Check]:
    """Yield each check of the references, then the others."""
    for reference in results["references"]:
        yield from reference["checks"]
    yield from results["other_checks"]


def cell_of(reference: ReferenceResult) -> Cell:
    """Return what the matrix shows of a reference."""
    cell = Cell(void=reference["void"])
    for check in reference["checks"]:
        if check["outcome"] in (NOT_RUN, "skipped"):
            continue
        cell.checked.add(check["name"])
        if check["outcome"] in FAILED:
            cell.failed.add(check["name"])
        cell.native = check["native"].get("outcome", cell.native)
        # What is not finite has failed.
        shares = [share for share in check["shares"].values() if share]
        if check["shares"]:
            cell.share = max([*shares, cell.share or 0.0])
    return cell


def matrix_of(results: Results) -> dict[tuple[Version, str], Cell]:
    """Return the cells of the matrix, by release and case."""
    return {
        (Version(each["release"]), each["case"]): cell_of(each)
        for each in results["references"]
    }


def verdict(results: Results) -> str:
    """Say in one sentence what a run has shown."""
    checked = [r for r in results["references"] if r["checks"]]
    red = [r for r in checked if has_failed(r["checks"])]
    others = has_failed(results["other_checks"])
    count = counted(len(checked), "reference")
    if red:
        said = f"{len(red)} of {count} failed"
    elif others:
        said = "checks of migrations failed"
    elif results["incomplete"]:
        said = "no failure so far" if checked else "nothing was checked"
    elif not checked:
        said = "nothing was checked"
    else:
        said = f"{count} passed"
        # Such as -k native: nothing is said of the other route.
        routes = [str(cell_of(each)).split("/") for each in checked]
        if any("-" in each for each in routes):
            said += " the checks that were selected"
    if results["incomplete"]:
        said = f"Incomplete: {said}"
    shards = results["shards"]
    part = f"Shard {', '.join(shards)}: " if missing_shards(shards) else ""
    return part + said


def passed(results: Results) -> bool:
    """Whether the run is whole, checked something, and nothing failed."""
    return (
        not results["incomplete"]
        and not has_failed(all_checks(results))
        and any(r["checks"] for r in results["references"])
    )


def checks_with_maps(reference: ReferenceResult) -> list[Check]:
    """Return the checks whose map is worth drawing.

    Failures, or else the largest share; and a native route whose outputs differ
    without an error.
    """
    found = [check for check in reference["checks"] if check["map"]]
    chosen = [
        check
        for check in found
        if check["outcome"] in FAILED
        or check["native"].get("outcome") == "differs"
    ]
    if not has_failed(chosen):
        rest = [c for c in found if c["shares"] and c not in chosen]
        chosen += sorted(rest, key=_largest, reverse=True)[:1]
    return chosen


def _largest(check: Check) -> float:
    return max((share or 0.0 for share in check["shares"].values()), default=0)


def missing_shards(shards: Sequence[str]) -> list[str]:
    """Return those of ``1/4`` to ``4/4`` that are not there."""
    if not shards:
        return []
    total = shards[0].partition("/")[2]
    every = [f"{index}/{total}" for index in range(1, int(total) + 1)]
    return [shard for shard in every if shard not in shards]


def percent_of(share: float | None) -> str:
    """Return a share of a tolerance as text; None is not finite."""
    if share is None:
        return "not finite"
    return percent(share) if share <= 10 else f"{share:.3g} times"
