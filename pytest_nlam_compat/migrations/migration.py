"""A step of the history: one change of meaning between two releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.saved_run import SavedRun

# What a step may need besides the checkpoint, and how a run says it has it.
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
        First release whose code needs the step.
    reason : str
        What changed, with the upstream pull request.
    operations : tuple of Operation
        Applied in order.
    oldest : str, optional
        First release whose runs need the step; all older than `since` by
        default. For a mistake that came in and was mended later.
    when : callable, optional
        Tells of a saved run whether it is concerned at all.
    needs : tuple of str
        Keys of `DATA`: what the run must come with.
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

    def between(self, origin: Version, target: Version) -> bool:
        """Tell whether the step lies on the way between two releases."""
        if self.oldest is not None and origin < Version(self.oldest):
            return False
        return origin < Version(self.since) <= target

    def applies(self, origin: Version, target: Version, run: SavedRun) -> bool:
        """Tell whether the step is needed to carry `run` across.

        Parameters
        ----------
        origin : Version
            Release that wrote the run.
        target : Version
            Release whose code is to load it.
        run : SavedRun
            As the origin wrote it.

        Returns
        -------
        bool
        """
        return self.between(origin, target) and (
            self.when is None or self.when(run)
        )

    def missing(self, run: SavedRun) -> list[str]:
        """List the data that the step needs and `run` lacks."""
        return [need for need in self.needs if not DATA[need](run)]

    def apply(self, run: SavedRun) -> SavedRun:
        """Apply the operations in order and note the id.

        Raises
        ------
        CompatError
            What an operation says, with the id of this step.
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
