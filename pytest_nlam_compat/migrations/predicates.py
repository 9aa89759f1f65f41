"""Predicates for `Migration.when`: which saved runs need a migration.

They print as the Python that builds them, as operations do.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.migrations.operations.graph import LEGACY
from pytest_nlam_compat.migrations.operations.segments import covers
from pytest_nlam_compat.migrations.operations.trees import (
    contains_instance_of,
    find,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True)
class Holds:
    """Whether a run has a module or tensor of some name.

    Attributes
    ----------
    name : str
        Pattern of whole segments, with wildcards as in `Rename`. It may be
        below any parent, so that it matches with and without
        ``forecaster.predictor``.

    Examples
    --------
    >>> run = SavedRun({"forecaster.predictor.mesh_embedder.0.bias": 0}, {})
    >>> Holds("mesh_embedder")(run), Holds("embedder")(run)
    (True, False)
    """

    name: str

    def __call__(self, run: SavedRun) -> bool:
        """Look for the name."""
        return any(
            covers(self.name, ".".join(segments[start:]))
            for segments in (name.split(".") for name in run.state_dict)
            for start in range(len(segments))
        )


@dataclass(frozen=True)
class HasHyperParameter:
    """Whether a run has a hyper-parameter, or one of some value.

    Attributes
    ----------
    path : str
        Such as ``"config.datastore.kind"``.
    value : str, optional
        Equal to the value, or to what an object such as a ``str`` subclass
        was built from. By default any will do.
    """

    path: str
    value: str | None = None

    def __call__(self, run: SavedRun) -> bool:
        """Look for the hyper-parameter."""
        exists, found = find(run.hyper_parameters, self.path.split("."))
        if self.value is None:
            return exists
        if isinstance(found, InertObject):
            found = found.args[0]
        return bool(found == self.value)


@dataclass(frozen=True)
class HoldsInstance:
    """Whether an object of a class is among the hyper-parameters.

    Attributes
    ----------
    cls : str
        Module and class.
    """

    cls: str

    def __call__(self, run: SavedRun) -> bool:
        """Search all hyper-parameters."""
        return contains_instance_of(run.hyper_parameters, self.cls)


@dataclass(frozen=True)
class RegeneratedGraph:
    """Whether the graph of an older run was created again, by 0.7.

    Only 0.7 writes a format, so an older run came by such a graph later.

    Attributes
    ----------
    weight : str, optional
        Tensor that the run must have, too.
    """

    weight: str | None = None

    def __call__(self, run: SavedRun) -> bool:
        """Look at the format of the graph."""
        return (
            bool(run.graph)
            and run.graph_format != LEGACY
            and (self.weight is None or self.weight in run.state_dict)
        )
