"""All steps on the way to the code under test.

neural-lam's history ends at the release that the code has reached. What its
repository brings along comes on top, and the code counts as having it: a step
for the release to come, say 0.8.0, is applied to every saved run of an older
release although the code is no 0.8.0 yet, and to no run of 0.8.0 later on.
"""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.planning import steps_between
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True)
class Registry:
    """The steps of some code: neural-lam's history, then its repository's.

    Attributes
    ----------
    release : Version
        Newest release whose layout the code has, apart from `own`.
    own : tuple of Migration
        What the repository under test brings along.
    history : tuple of Migration
        Of neural-lam; what is newer than `release` is left aside.
    """

    release: Version
    own: tuple[Migration, ...] = ()
    history: tuple[Migration, ...] = HISTORY

    @property
    def known(self) -> tuple[Migration, ...]:
        """Steps of neural-lam's history that the code has been through."""
        return tuple(
            step for step in self.history if Version(step.since) <= self.release
        )

    @property
    def steps(self) -> tuple[Migration, ...]:
        """All steps of the code."""
        return (*self.known, *self.own)

    @property
    def layout(self) -> Version:
        """Release whose layout the code has, with the repository's steps."""
        return max([self.release, *(Version(step.since) for step in self.own)])

    def plan(self, origin: Version, run: SavedRun) -> list[Migration]:
        """Find the steps that carry a run to the layout of the code.

        Parameters
        ----------
        origin : Version
            Release that wrote the run.
        run : SavedRun
            As it wrote it.

        Returns
        -------
        list of Migration
            In order.

        Raises
        ------
        CompatError
            See `planning.steps_between`.
        """
        return steps_between(origin, self.layout, run, self.steps)
