"""Maps of a report: golden, obtained and their difference, node by node.

A map is a picture with a pixel for each node; all text around it is text of
the page, legible on any background.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.image import imsave

from pytest_nlam_compat.reports.results import ErrorMap

_STATES, _ERRORS = "viridis", "RdBu_r"
_STOPS = 9
# Broader or higher than this is stretched: grids may be 81 by 2 nodes.
_BROADEST, _HIGHEST = 8.0, 0.8


@dataclass(frozen=True)
class Picture:
    """One map.

    Attributes
    ----------
    source : str
        Of an image: a PNG as data URI.
    low, high : float
        What the first and the last colour stand for.
    colours : str
        The colours in between, for a gradient of CSS.
    """

    title: str
    source: str
    low: float
    high: float
    colours: str


@dataclass(frozen=True)
class Growth:
    """The error at one step, over the spread of the variable.

    `length` is that of a bar in percent, on a logarithmic scale.
    """

    step: int
    error: float | None
    length: float


def pictures(data: ErrorMap) -> list[Picture]:
    """Draw golden, obtained, and obtained minus golden."""
    golden = _grid(data["golden"], data["grid"])
    difference = _grid(data["difference"], data["grid"])
    low, high = float(golden.min()), float(golden.max())
    finite = np.abs(difference[np.isfinite(difference)])
    size = float(finite.max(initial=0.0))
    obtained = golden + difference
    return [
        _picture("golden", golden, low, high, _STATES),
        _picture("obtained", obtained, low, high, _STATES),
        _picture("obtained - golden", difference, 0.0 - size, size, _ERRORS),
    ]


def aspect_of(data: ErrorMap) -> float:
    """Return the width of a map over its height."""
    nx, ny = data["grid"]
    return min(max(max(nx, ny) / min(nx, ny), _HIGHEST), _BROADEST)


def growth(data: ErrorMap) -> list[Growth]:
    """Return the error of each step, with bars from rounding up to the size.

    A bar of no length is 1e-16 of the spread, a full one is all of it.
    """
    return [
        Growth(
            step,
            error,
            100.0 if error is None else _length(error),
        )
        for step, error in enumerate(data["growth"], start=1)
    ]


def allowed_length(data: ErrorMap) -> float:
    """Return where on the scale of `growth` the tolerance is."""
    return _length(data["allowed"])


def _length(error: float) -> float:
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
) -> Picture:
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
    source = f"data:image/png;base64,{encoded}"
    return Picture(title, source, low, high, stops)
