"""The results of a run as one HTML file that needs nothing else.

A map is a picture with a pixel for each grid node; all text around it is text
of the page, legible on any background.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO

import jinja2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.image import imsave

from pytest_nlam_compat.reports import results as data
from pytest_nlam_compat.reports.matrix import Cell

_TEMPLATE = files("pytest_nlam_compat.reports") / "report.html.j2"
_STATES, _ERRORS = "viridis", "RdBu_r"
_STOPS = 9
# Broader or higher than this is stretched: grids may be 81 by 2 nodes.
_BROADEST, _HIGHEST = 8.0, 0.8


def html(results: data.Results) -> str:
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
        checks_with_maps=data.checks_with_maps,
        aspect_of=_aspect,
        pictures_of=_pictures,
        bar=_bar,
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


def _kind(reference: data.ReferenceResult, cell: Cell) -> str:
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


def _pictures(error_map: data.ErrorMap) -> list[dict[str, object]]:
    """Draw golden, obtained, and obtained minus golden."""
    golden = _grid(error_map["golden"], error_map["grid"])
    difference = _grid(error_map["difference"], error_map["grid"])
    low, high = float(golden.min()), float(golden.max())
    finite = np.abs(difference[np.isfinite(difference)])
    size = float(finite.max(initial=0.0))
    obtained = golden + difference
    return [
        _picture("golden", golden, low, high, _STATES),
        _picture("obtained", obtained, low, high, _STATES),
        _picture("obtained - golden", difference, 0.0 - size, size, _ERRORS),
    ]


def _aspect(error_map: data.ErrorMap) -> float:
    """Return the width of a map over its height."""
    nx, ny = error_map["grid"]
    return min(max(max(nx, ny) / min(nx, ny), _HIGHEST), _BROADEST)


def _bar(error: float | None) -> float:
    """Return the length of an error's bar in percent, on a logarithmic scale.

    A bar of no length is 1e-16 of the spread of a variable, a full one all of
    it; None is not finite.
    """
    if error is None:
        return 100.0
    if error <= 0:
        return 0.0
    return float(np.clip(100 * (1 + np.log10(error) / 16), 0, 100))


def _grid(
    values: Sequence[float | None], shape: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Return values by row and column, with the longer side across."""
    filled = [np.nan if value is None else value for value in values]
    nodes = np.array(filled, dtype=float).reshape(*shape)
    # The first axis is x: rows of a picture are y, the first one on top.
    return nodes.T[::-1] if shape[0] >= shape[1] else nodes


def _picture(
    title: str,
    values: npt.NDArray[np.float64],
    low: float,
    high: float,
    colours: str,
) -> dict[str, object]:
    """Draw one map; its colours, from low to high, are a gradient of CSS."""
    stream = BytesIO()
    # Equal values have the colour in the middle.
    around = 0.0 if high > low else 1.0
    imsave(
        stream,
        np.ma.masked_invalid(values),
        vmin=low - around,
        vmax=high + around,
        cmap=colours,
        format="png",
    )
    encoded = base64.b64encode(stream.getvalue()).decode()
    scale = mpl.colormaps[colours](np.linspace(0, 1, _STOPS))
    stops = ", ".join(to_hex(stop) for stop in scale)
    return {
        "title": title,
        "source": f"data:image/png;base64,{encoded}",
        "low": low,
        "high": high,
        "colours": stops,
    }
