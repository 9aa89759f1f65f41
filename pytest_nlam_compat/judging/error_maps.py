"""Where on the grid outputs differ from their golden, as data of a report."""

from __future__ import annotations

import math

from torch import Tensor

from pytest_nlam_compat.judging.grade import Result
from pytest_nlam_compat.numerics.comparison import spread
from pytest_nlam_compat.numerics.tolerances import FLOAT64
from pytest_nlam_compat.reports.results import ErrorMap, finite

# Of a picture: more digits would double the size of a results file.
_GOLDEN_DIGITS, _ERROR_DIGITS = 6, 4


def error_map(result: Result) -> ErrorMap | None:
    """Return the map of the worst difference on the grid.

    That of the worst output that is a state at each step, (B, T, N, d); None
    if there is none, as of a loss alone.
    """
    nx, ny = result.reference.dataset.grid_shape
    names = list(result.reference.dataset.names["state"])
    double = result.tolerance is FLOAT64
    golden = result.reference.group("golden64" if double else "golden32")
    for worst in result.differences:
        expected = golden[worst.output].double()
        on_grid = expected.ndim == 4 and expected.shape[2] == nx * ny
        if not on_grid or worst.variable not in names:
            continue
        obtained = result.outputs[worst.output].detach().double().cpu()
        variable = names.index(worst.variable)
        item, step, node = worst.index
        difference = (obtained - expected)[..., variable]
        size = float(spread(expected)[variable])
        growth = difference.abs().amax(dim=(0, 2)) / size
        return ErrorMap(
            output=worst.output,
            variable=worst.variable,
            item=item,
            step=step,
            node=node,
            obtained=finite(worst.obtained),
            expected=worst.expected,
            grid=[nx, ny],
            golden=[
                _rounded(value, _GOLDEN_DIGITS)
                for value in expected[item, step, :, variable].tolist()
            ],
            difference=_known(difference[item, step]),
            growth=_known(growth),
            allowed=worst.allowed / size,
        )
    return None


def _known(values: Tensor) -> list[float | None]:
    return [
        _rounded(value, _ERROR_DIGITS) if math.isfinite(value) else None
        for value in values.tolist()
    ]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
