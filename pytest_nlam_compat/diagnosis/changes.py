"""What happened to the names and shapes of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_nlam_compat.migrations import Operation

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Change:
    """One thing that happened to names or shapes.

    Attributes
    ----------
    kind : str
        ``renamed``, ``moved``, ``exchanged``, ``split``, ``fused``,
        ``transposed``, ``columns added``, ``columns removed``, ``added``,
        ``dropped``.
    text : str
    choices : tuple of tuple of Operation
        Ways to carry a run across, the likeliest first; empty where there is
        none.
    """

    kind: str
    text: str
    choices: tuple[tuple[Operation, ...], ...] = ()
