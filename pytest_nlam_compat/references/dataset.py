"""The dataset of a reference as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CATEGORIES = ("state", "forcing", "static")


@dataclass(frozen=True)
class Dataset:
    """Arrays of a small dataset, with what gives them meaning.

    Attributes
    ----------
    names : mapping of str to tuple of str
        Feature names of ``"state"``, ``"forcing"`` and ``"static"``.
    arrays : mapping of str to ndarray
        ``xy`` (Nx, Ny, 2) grid coordinates in m; ``state`` (T, N, d),
        ``forcing`` (T, N, f), ``static`` (N, s) in physical units, N = Nx Ny
        nodes in x-major order; ``boundary_mask`` (N,) 1 where a node is
        boundary; ``<category>_mean`` and ``<category>_std`` per feature;
        ``state_diff_mean`` and ``state_diff_std`` of one-step differences of
        standardised states.
    step_hours : int
        Time between two states.
    start : str
        Time of the first state, ISO 8601.
    """

    names: Mapping[str, tuple[str, ...]]
    arrays: Mapping[str, npt.NDArray[np.floating]]
    step_hours: int = 3
    start: str = "2024-01-01T00:00"

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Grid nodes along x and y."""
        nx, ny = self.arrays["xy"].shape[:2]
        return int(nx), int(ny)
