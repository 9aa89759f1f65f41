"""Which migrations a saved run needs, and applying them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.releases import (
    RELEASES,
    raise_on_unknown_prefix,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import raise_on_upstream_stamp


def plan(
    run: SavedRun,
    target: Version | str,
    *,
    origin: Version | str | None = None,
    migrations: Sequence[Migration] = HISTORY,
) -> list[Migration]:
    """Find the migrations from the release of a saved run on, in order.

    Parameters
    ----------
    run : SavedRun
        As its release wrote it.
    target : Version or str
        Release whose layout is wanted.
    origin : Version or str, optional
        Release that wrote it; by default detected, see `detect_origin`.
    migrations : sequence of Migration
        See `steps_between`.

    Raises
    ------
    CompatError
        The origin is unknown or ambiguous, a release is no version, or
        whatever `steps_between` refuses.
    """
    raise_on_upstream_stamp(run.stamps)
    raise_on_unknown_prefix(run.state_dict)
    if origin is None:
        data = {
            "state_dict": run.state_dict,
            "hyper_parameters": run.hyper_parameters,
            **run.stamps,
        }
        origin = detect_origin(data).release
    return steps_between(
        _version("origin", origin), _version("target", target), run, migrations
    )


def steps_between(
    origin: Version,
    target: Version,
    run: SavedRun,
    migrations: Sequence[Migration] = HISTORY,
) -> list[Migration]:
    """Find the migrations of a saved run between two releases, in order.

    Parameters
    ----------
    origin, target : Version
        Release that wrote the run; release whose layout is wanted.
    run : SavedRun
        As the origin wrote it; that is what all predicates see.
    migrations : sequence of Migration
        A registry. Your own come after neural-lam's history:
        ``(*HISTORY, *own)``.

    Raises
    ------
    CompatError
        The target is older than the origin, or a migration needs data that
        the run comes without.
    """
    if target < origin:
        raise CompatError(
            f"A saved run of neural-lam {origin} can't be migrated back to "
            f"{target}.",
            remedy=f"Upgrade neural-lam to {origin} or newer, or name the "
            "release that wrote the run with --from.",
        )
    steps = [
        step
        for step in in_order(migrations)
        if step.applies(origin, target, run)
    ]
    lacking = [step for step in steps if step.missing(run)]
    if lacking:
        missing = {need for step in lacking for need in step.missing(run)}
        raise CompatError(
            f"Migrating a saved run of neural-lam {origin} to {target} needs "
            "more than its checkpoint.",
            facts={
                "missing": ", ".join(sorted(missing)),
                **{f"step {step.id}": step.reason for step in lacking},
            },
            remedy="Pass the graph directory and the dataset that it was "
            "trained with.",
        )
    return steps


def apply(run: SavedRun, steps: Iterable[Migration]) -> SavedRun:
    """Apply migrations one after another.

    Cast the run with `SavedRun.double` first, or read it lazily, so that folds
    are rounded once. An error of an operation has the id of its migration.
    """
    for step in steps:
        run = step.apply(run)
    return run


def in_order(migrations: Iterable[Migration]) -> list[Migration]:
    """Sort by release; within one, the order of the registry stays."""
    return sorted(migrations, key=lambda step: Version(step.since))


def _version(argument: str, given: Version | str) -> Version:
    try:
        return Version(str(given))
    except InvalidVersion:
        raise CompatError(
            f"{given!r} is not a release of neural-lam.",
            facts={
                "argument": argument,
                "expected": f"a version, such as {RELEASES[-1]}",
            },
            remedy="Pass a version. For a development install, pass the "
            "release before it.",
        ) from None


class Registry(NamedTuple):
    """The migrations of some code: neural-lam's history, then its own.

    The history ends at the release that the code has reached. The migrations
    of its repository come on top: one for the release to come, say 0.8.0,
    applies to every run of an older release although the code is no 0.8.0
    yet, and to no run of 0.8.0 later on.

    `release` is the newest whose layout the code has, apart from `own`.
    """

    release: Version
    own: tuple[Migration, ...] = ()
    history: tuple[Migration, ...] = HISTORY

    @property
    def known(self) -> tuple[Migration, ...]:
        """Migrations of neural-lam's history up to the release of the code."""
        return tuple(
            step for step in self.history if Version(step.since) <= self.release
        )

    @property
    def steps(self) -> tuple[Migration, ...]:
        """All migrations of the code."""
        return (*self.known, *self.own)

    @property
    def layout(self) -> Version:
        """Release whose layout the code has, with the repository's changes."""
        return max([self.release, *(Version(step.since) for step in self.own)])

    def plan(self, origin: Version, run: SavedRun) -> list[Migration]:
        """Find the migrations of a run of `origin`; see `steps_between`."""
        return steps_between(origin, self.layout, run, self.steps)
