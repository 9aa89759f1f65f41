"""Two traces side by side, call by call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.renames import ModuleNames
from pytest_nlam_compat.numerics.tolerances import TRACE
from pytest_nlam_compat.references.reference import SAMPLES, Call, Trace


@dataclass(frozen=True)
class Pair:
    """A call of the release, and what the current code has in its place.

    Attributes
    ----------
    module : str
        Current name, below the step predictor.
    then : int
        Call in the trace of the reference.
    now : int or None
        Call in the trace of the current code; None where there is none.
    inputs, outputs : float
        Largest difference, over the size of the tensor; infinite where
        shapes or numbers differ.
    """

    module: str
    then: int
    now: int | None
    inputs: float
    outputs: float


@dataclass
class Alignment:
    """All calls of a reference beside those of the current code.

    Attributes
    ----------
    pairs : list of Pair
        In the order of the reference.
    added : list of str
        Modules that only the current code calls.
    """

    pairs: list[Pair] = field(default_factory=list)
    added: list[str] = field(default_factory=list)


def agrees(size: float) -> bool:
    """Tell whether a difference between traces is one of rounding only."""
    return size <= TRACE.relative


def row_difference(row: Tensor, expected: Tensor) -> float:
    """Compare two rows of traces.

    Parameters
    ----------
    row, expected : Tensor
        (SAMPLES + MOMENTS,) as `diagnosis.trace.fingerprint` makes them.

    Returns
    -------
    float
        Over the root mean square of the tensor.
    """
    square = SAMPLES + 1
    scale = torch.full_like(expected, float(expected[square].sqrt()))
    scale[square] = expected[square]
    scale = torch.where(scale > 0, scale, 1.0)
    share = float(((row - expected).abs() / scale).max())
    return float("inf") if share != share else share


def tensor_difference(
    now: Trace, rows: Sequence[int], then: Trace, expected: Sequence[int]
) -> float:
    """Compare the inputs or the outputs of two calls."""
    if len(rows) != len(expected):
        return float("inf")
    worst = 0.0
    for row, wanted in zip(rows, expected, strict=True):
        if now.shapes[row] != then.shapes[wanted]:
            return float("inf")
        size = row_difference(now.rows[row], then.rows[wanted])
        worst = max(worst, size)
    return worst


def align(then: Trace, now: Trace, names: ModuleNames) -> Alignment:
    """Pair the calls of two traces.

    Parameters
    ----------
    then : Trace
        Of the reference.
    now : Trace
        Of the current code.
    names : ModuleNames

    Returns
    -------
    Alignment
    """
    places = {key: place for place, key in enumerate(_numbered(now.calls))}
    found = Alignment()
    used = set()
    renamed = [
        Call(names.current(c.module), c.kind, c.inputs, c.outputs)
        for c in then.calls
    ]
    for index, (key, call) in enumerate(
        zip(_numbered(renamed), renamed, strict=True)
    ):
        place = places.get(key)
        if place is None:
            found.pairs.append(Pair(call.module, index, None, 0.0, 0.0))
            continue
        used.add(key[0])
        other = now.calls[place]
        found.pairs.append(
            Pair(
                call.module,
                index,
                place,
                tensor_difference(now, other.inputs, then, call.inputs),
                tensor_difference(now, other.outputs, then, call.outputs),
            )
        )
    found.added = [
        name
        for name in dict.fromkeys(call.module for call in now.calls)
        if name not in used
    ]
    return found


def _numbered(calls: Sequence[Call]) -> Iterator[tuple[str, int]]:
    """Name each call by its module, and how often that was called before."""
    seen: Counter[str] = Counter()
    for call in calls:
        yield call.module, seen[call.module]
        seen[call.module] += 1
