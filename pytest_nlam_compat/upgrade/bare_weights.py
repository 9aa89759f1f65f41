"""What is different where there are weights and no hyper-parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.weights import Weights
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import concerns
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.operations import hyper_parameters as room
from pytest_nlam_compat.migrations.planning import in_order
from pytest_nlam_compat.upgrade.configuration import stand_in
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts


def told_by_facts(
    checkpoint: Checkpoint, facts: DatasetFacts | None
) -> dict[str, Any] | None:
    """Give the hyper-parameters that the facts of the dataset tell.

    Parameters
    ----------
    checkpoint : Checkpoint
    facts : DatasetFacts, optional

    Returns
    -------
    dict or None
        None where the file has its own.
    """
    if not isinstance(checkpoint, Weights):
        return None
    if facts is None or facts.config is None:
        return {}
    return {"config": stand_in(facts.config)}


def refuse_untold(
    checkpoint: Checkpoint,
    told: dict[str, Any] | None,
    origin: str,
    target: str,
) -> None:
    """Refuse where a step of the weights depends on what nobody told.

    Parameters
    ----------
    checkpoint : Checkpoint
    told : dict, optional
        From `told_by_facts`.
    origin, target : str
        Releases.

    Raises
    ------
    CompatError
        With the step, and the way to tell it.
    """
    if told is None or told:
        return
    untold = [
        step
        for step in _between(origin, target)
        if step.when is concerns.of_mdp_datastore
    ]
    if untold:
        raise CompatError(
            "The weights alone do not say whether a step concerns them: it "
            "depends on the kind of the datastore.",
            facts={
                "file": checkpoint.path,
                **{f"step {step.id}": step.reason for step in untold},
            },
            remedy="Give --datastore CONFIG of what it was trained with, or "
            '--statistics FILE that has a "config".',
        )


def without_hyper_parameters(
    steps: Iterable[Migration], told: dict[str, Any] | None
) -> list[Migration]:
    """Leave out the steps that only change hyper-parameters.

    Parameters
    ----------
    steps : iterable of Migration
    told : dict, optional
        From `told_by_facts`. None: all steps stay.

    Returns
    -------
    list of Migration
    """
    return [step for step in steps if told is None or not _is_theirs(step)]


def notes(told: dict[str, Any] | None, origin: str, target: str) -> list[str]:
    """Say what whoever builds the model has to do himself.

    Parameters
    ----------
    told : dict, optional
        From `told_by_facts`.
    origin, target : str
        Releases.

    Returns
    -------
    list of str
    """
    left = [step for step in _between(origin, target) if _is_theirs(step)]
    if told is None or not left:
        return []
    return [
        "The file has no hyper-parameters. These changed too, and the model "
        f"has to be built with those of {target}:",
        *(f"  {step.id}: {step.reason}" for step in left),
    ]


def _between(origin: str, target: str) -> list[Migration]:
    versions = Version(origin), Version(target)
    return [step for step in in_order(HISTORY) if step.between(*versions)]


def _is_theirs(step: Migration) -> bool:
    return all(
        type(operation).__module__ == room.__name__
        for operation in step.operations
    )
