"""A migration, one change of meaning between two releases, and its predicates.

Predicates, for `Migration.when`, say which saved runs need a migration. They
print as the Python that builds them, as operations do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from packaging.version import Version

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import (
    Expression,
    OnHyperParameters,
    Operation,
)
from pytest_nlam_compat.migrations.operations.graph import LEGACY
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    contains_instance_of,
    find,
)
from pytest_nlam_compat.migrations.operations.segments import covers
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(repr=False, eq=False)
class Holds(Expression):
    """Whether a run has a module or tensor of some name.

    The name is a pattern as in `Rename`. It may be below any parent, so that
    it matches with and without ``forecaster.predictor``.

    Examples
    --------
    >>> run = SavedRun({"forecaster.predictor.mesh_embedder.0.bias": 0}, {})
    >>> Holds("mesh_embedder")(run), Holds("embedder")(run)
    (True, False)
    """

    name: str

    def __call__(self, run: SavedRun) -> bool:
        """Look for the name."""
        return any(covers(f"**.{self.name}", name) for name in run.state_dict)


@dataclass(repr=False, eq=False)
class HasHyperParameter(Expression):
    """Whether a run has a hyper-parameter ``"config.x.y"``, or one of a value.

    An object such as a ``str`` subclass has the value it was built from.
    """

    path: str
    value: str | bool | int | None = None

    def __call__(self, run: SavedRun) -> bool:
        """Look for the hyper-parameter."""
        exists, found = find(run.hyper_parameters, self.path.split("."))
        if self.value is None:
            return exists
        if isinstance(found, InertObject):
            return found.args == (self.value,)
        return bool(found == self.value)


@dataclass(repr=False, eq=False)
class Not(Expression):
    """Whether another predicate does not hold."""

    predicate: Callable[[SavedRun], bool]

    def __call__(self, run: SavedRun) -> bool:
        """Ask the other predicate."""
        return not self.predicate(run)


@dataclass(repr=False, eq=False)
class All(Expression):
    """Whether all of several predicates hold."""

    predicates: tuple[Callable[[SavedRun], bool], ...]

    def __call__(self, run: SavedRun) -> bool:
        """Ask each of them."""
        return all(predicate(run) for predicate in self.predicates)


@dataclass(repr=False, eq=False)
class HoldsInstance(Expression):
    """Whether an object of a class, module and name, is a hyper-parameter."""

    cls: str

    def __call__(self, run: SavedRun) -> bool:
        """Search all hyper-parameters."""
        return contains_instance_of(run.hyper_parameters, self.cls)


@dataclass(repr=False, eq=False)
class RegeneratedGraph(Expression):
    """Whether the graph of an older run was created again, by 0.7.

    Only 0.7 writes a format, so an older run came by such a graph later. If
    `weight` is given, the run must have that tensor, too.
    """

    weight: str | None = None

    def __call__(self, run: SavedRun) -> bool:
        """Look at the format of the graph."""
        return (
            bool(run.graph)
            and run.graph_format != LEGACY
            and (self.weight is None or self.weight in run.state_dict)
        )


DATA = ("graph", "grid_shape", "statistics")
"""Parts of a saved run that come with no checkpoint."""


@dataclass(frozen=True)
class Migration:
    """One change of meaning in the history of neural-lam.

    Attributes
    ----------
    id : str
        Unique in its registry; never changed once published.
    since : str
        First release whose code needs the migration.
    reason : str
        What changed, with the upstream pull request.
    operations : tuple of Operation
        Applied in order.
    oldest : str, optional
        First release whose runs need it; all older than `since` by default.
        For a mistake that one release introduced and a later one fixed.
    when : callable, optional
        Tells of a saved run, as its release wrote it, whether it needs the
        migration.
    needs : tuple of str
        Of `DATA`: what the run must come with. What the operations need is
        added.
    """

    id: str
    since: str
    reason: str
    operations: tuple[Operation, ...]
    oldest: str | None = None
    when: Callable[[SavedRun], bool] | None = None
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for release in (self.since, self.oldest):
            if release is not None:
                Version(release)
        unknown = set(self.needs) - set(DATA)
        if unknown:
            raise ValueError(
                f"Migration {self.id!r} needs unknown data: {sorted(unknown)}"
            )
        needs = [need for each in self.operations for need in each.needs]
        merged = tuple(dict.fromkeys((*self.needs, *needs)))
        object.__setattr__(self, "needs", merged)

    @property
    def on_hyper_parameters_only(self) -> bool:
        """Whether it changes neither weights nor graph."""
        return all(isinstance(o, OnHyperParameters) for o in self.operations)

    @property
    def decided_by(self) -> str | None:
        """The hyper-parameter that decides whether weights are changed."""
        if self.on_hyper_parameters_only:
            return None
        when = self.when
        return when.path if isinstance(when, HasHyperParameter) else None

    def between(self, origin: Version, target: Version) -> bool:
        """Tell whether the change was made between two releases."""
        if self.oldest is not None and origin < Version(self.oldest):
            return False
        return origin < Version(self.since) <= target

    def applies(self, origin: Version, target: Version, run: SavedRun) -> bool:
        """Tell whether a run, as `origin` wrote it, needs the migration."""
        return self.between(origin, target) and (
            self.when is None or self.when(run)
        )

    def missing(self, run: SavedRun) -> list[str]:
        """List the data that the migration needs and `run` lacks."""
        return [need for need in self.needs if not getattr(run, need)]

    def apply(self, run: SavedRun) -> SavedRun:
        """Apply the operations in order, and note the id, also in errors."""
        for operation in self.operations:
            try:
                run = operation.apply(run)
            except CompatError as error:
                raise CompatError(
                    error.what,
                    facts={"migration": self.id, **error.facts},
                    remedy=error.remedy,
                ) from error
        return replace(run, applied=(*run.applied, self.id))
