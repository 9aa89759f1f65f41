"""A migration: one change of meaning between two releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import (
    OnHyperParameters,
    Operation,
)
from pytest_nlam_compat.migrations.predicates import HasHyperParameter
from pytest_nlam_compat.migrations.saved_run import SavedRun

# What a migration may need besides the checkpoint: whether a run has it.
DATA: dict[str, Callable[[SavedRun], bool]] = {
    "graph": lambda run: bool(run.graph),
    "grid_shape": lambda run: run.grid_shape is not None,
    "statistics": lambda run: run.statistics is not None,
}


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
        Keys of `DATA`: what the run must come with. What the operations need
        is added.
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
        """Tell whether a run needs the migration.

        Parameters
        ----------
        origin : Version
            Release that wrote the run.
        target : Version
            Release whose code is to load it.
        run : SavedRun
            As the origin wrote it.
        """
        return self.between(origin, target) and (
            self.when is None or self.when(run)
        )

    def missing(self, run: SavedRun) -> list[str]:
        """List the data that the migration needs and `run` lacks."""
        return [need for need in self.needs if not DATA[need](run)]

    def apply(self, run: SavedRun) -> SavedRun:
        """Apply the operations in order and note the id.

        Raises
        ------
        CompatError
            The error of an operation, with the id of this migration.
        """
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
