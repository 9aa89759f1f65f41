"""A predicate that prints, for steps that concern some architectures only."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nlam_compat.migrations.operations.segments import covers
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True)
class Holds:
    """Tell of a saved run whether it has a module or tensor, anywhere.

    Attributes
    ----------
    name : str
        Pattern of whole segments. It may stand below any parent, since
        releases up to 0.6 have no ``forecaster.predictor``.

    Examples
    --------
    >>> run = SavedRun({"forecaster.predictor.mesh_embedder.0.bias": 0}, {})
    >>> Holds("mesh_embedder")(run), Holds("embedder")(run)
    (True, False)
    """

    name: str

    def __call__(self, run: SavedRun) -> bool:
        """Look for it."""
        return any(
            covers(self.name, ".".join(segments[start:]))
            for segments in (name.split(".") for name in run.state_dict)
            for start in range(len(segments))
        )
