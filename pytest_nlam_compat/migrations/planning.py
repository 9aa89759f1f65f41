"""The way of a saved run from one release to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.version import InvalidVersion, Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.prefixes import refuse_part
from pytest_nlam_compat.migrations.releases import RELEASES
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import refuse_unknown_stamp
from pytest_nlam_compat.migrations.wrapping import refuse_wrapped


def plan(
    run: SavedRun,
    target: Version | str,
    *,
    origin: Version | str | None = None,
    migrations: Sequence[Migration] = HISTORY,
) -> list[Migration]:
    """Find the steps that carry a saved run to a release.

    Parameters
    ----------
    run : SavedRun
        As its release wrote it.
    target : Version or str
        Release whose layout is wanted.
    origin : Version or str, optional
        Release that wrote it, what ``--from`` says; told from the run itself
        by default, as `detect_origin` does.
    migrations : sequence of Migration
        As for `steps_between`.

    Returns
    -------
    list of Migration
        In order; empty where nothing changed in between.

    Raises
    ------
    CompatError
        Several releases may have written it, or one that is not known; its
        weights stand where no release has them; a release is no version; and
        whatever `steps_between` refuses.
    """
    refuse_unknown_stamp(run.stamps)
    refuse_part(run.state_dict)
    refuse_wrapped(run.state_dict)
    if origin is None:
        told = {
            "state_dict": run.state_dict,
            "hyper_parameters": run.hyper_parameters,
        }
        origin = detect_origin({**told, **run.stamps}).version
    return steps_between(
        _version("origin", origin), _version("target", target), run, migrations
    )


def steps_between(
    origin: Version,
    target: Version,
    run: SavedRun,
    migrations: Sequence[Migration] = HISTORY,
) -> list[Migration]:
    """Find the steps that carry a run from one release to another.

    Parameters
    ----------
    origin, target : Version
        Release that wrote the run; release whose layout is wanted. Of a
        development install give the newest release's layout that it has.
    run : SavedRun
        As the origin wrote it; the predicates of all steps see it so.
    migrations : sequence of Migration
        A registry. One of your own comes after neural-lam's history:
        ``(*HISTORY, *own)``.

    Returns
    -------
    list of Migration
        In order; empty where nothing changed in between.

    Raises
    ------
    CompatError
        The target is older than the origin, or a step needs data that the run
        comes without.
    """
    if target < origin:
        raise CompatError(
            f"A saved run of neural-lam {origin} can't be carried back to "
            f"{target}.",
            remedy=f"Upgrade neural-lam to {origin} or newer, or say which "
            "release wrote the run with --from.",
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
            f"A saved run of neural-lam {origin} can't be carried to {target} "
            "without more than its checkpoint.",
            facts={
                "missing": ", ".join(sorted(missing)),
                **{f"step {step.id}": step.reason for step in lacking},
            },
            remedy="Give the graph directory and the dataset that it was "
            "trained with.",
        )
    return steps


def apply(run: SavedRun, steps: Iterable[Migration]) -> SavedRun:
    """Apply steps one after another.

    Parameters
    ----------
    run : SavedRun
        Left as it is. Cast it first with `SavedRun.double`, so that folds are
        rounded once, when the result is cast back.
    steps : iterable of Migration
        As `plan` gave them.

    Returns
    -------
    SavedRun

    Raises
    ------
    CompatError
        What an operation refuses, with the id of its step.
    """
    for step in steps:
        run = step.apply(run)
    return run


def _version(argument: str, given: Version | str) -> Version:
    try:
        return Version(str(given))
    except InvalidVersion:
        raise CompatError(
            f"There is no release {given!r} of neural-lam.",
            facts={
                "argument": argument,
                "expected": f"a version, such as {RELEASES[-1]}",
            },
            remedy="Give one; of a development install the release before it.",
        ) from None


def in_order(migrations: Iterable[Migration]) -> list[Migration]:
    """Sort by release; within one, the order of the registry stays."""
    return sorted(migrations, key=lambda step: Version(step.since))
