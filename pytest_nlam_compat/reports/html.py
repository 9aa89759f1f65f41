"""The results of a run as one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import jinja2

from pytest_nlam_compat.reports import figures
from pytest_nlam_compat.reports import results as data
from pytest_nlam_compat.reports.matrix import Cell
from pytest_nlam_compat.reports.results import ReferenceResult, Results

_TEMPLATE = files("pytest_nlam_compat.reports") / "report.html.j2"


def html(results: Results) -> str:
    """Return the report as HTML, readable offline and without scripts.

    Whatever comes from the results is escaped.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = data.percent_of
    environment.filters["number"] = _number
    environment.filters["width"] = _width
    environment.globals.update(
        failed=data.FAILED,
        has_failed=data.has_failed,
        kind_of=_kind,
        maps_of=data.maps_of,
        figures=figures,
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    cells = data.matrix_of(results)
    at = {(r["release"], r["case"]): r for r in results["references"]}
    numbers = {r["id"]: n for n, r in enumerate(results["references"])}
    return template.render(
        results=results,
        verdict=data.verdict(results),
        passed=data.passed(results),
        counts=Counter(c["outcome"] for c in data.all_checks(results)),
        # The newest first: it is what fits a narrow screen.
        releases=sorted({release for release, _ in cells}, reverse=True),
        cases=sorted({case for _, case in cells}),
        cells={(str(release), case): c for (release, case), c in cells.items()},
        at=at,
        numbers=numbers,
        causes={c["key"]: n for n, c in enumerate(results["causes"])},
    )


def _kind(reference: ReferenceResult, cell: Cell) -> str:
    """Return the class and the word for a cell."""
    if reference["void"]:
        return "void"
    if data.has_failed(reference["checks"]):
        return "failed"
    return "passed" if cell.checked else "open"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _width(share: float | None) -> str:
    """Return the length of a bar in percent; a full one is the tolerance."""
    return f"{100 if share is None else min(100 * share, 100):.0f}"
