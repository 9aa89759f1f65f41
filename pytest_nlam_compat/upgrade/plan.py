"""Carrying an open checkpoint from one release to another, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.planning import apply, plan
from pytest_nlam_compat.migrations.prefixes import (
    FIRST_WITH_PREFIX,
    has_prefix,
    without_prefix,
)
from pytest_nlam_compat.migrations.reading import (
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP, stamp
from pytest_nlam_compat.upgrade import bare_weights
from pytest_nlam_compat.upgrade.configuration import DEFAULT, stand_in
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts
from pytest_nlam_compat.upgrade.fitting import refuse_another, refuse_misfit
from pytest_nlam_compat.upgrade.graphs import Graph, fingerprint
from pytest_nlam_compat.upgrade.request import Request
from pytest_nlam_compat.upgrade.stamping import ENTRY, facts_in
from pytest_nlam_compat.upgrade.wellformed import refuse_malformed

_FIRST_WITH_CONFIG = Version("0.3.0")
_OPTIONS = {
    "graph": "--graph DIR (with --graph-out DIR)",
    "grid_shape": "--statistics FILE or --datastore CONFIG",
    "statistics": "--statistics FILE or --datastore CONFIG",
}
_UNIFORM = (
    "It has no configuration, as runs before v0.3.0 have none: one with equal "
    "weights of all variables was written, which matters only where it is "
    "trained on. With --datastore CONFIG it takes that one."
)


@dataclass(frozen=True)
class UpgradePlan:
    """How a checkpoint gets to the release that is asked for.

    Attributes
    ----------
    origin : str
        The release whose layout the file has.
    evidence : list of str
        What that rests on.
    run : SavedRun
        The file; nothing of it has been read.
    steps : list of Migration
        In order.
    facts : DatasetFacts, optional
        Given, or from the file's own stamp.
    notes : list of str
        What the user is to know.
    """

    origin: str
    evidence: list[str]
    run: SavedRun
    steps: list[Migration]
    facts: DatasetFacts | None
    notes: list[str]


@dataclass(frozen=True)
class _Content:
    """What `saved_run_from_checkpoint` reads, in the place of a checkpoint."""

    data: Mapping[str, Any]


def find_way(
    checkpoint: Checkpoint, request: Request, graph: Graph | None
) -> UpgradePlan:
    """Find the steps that a checkpoint needs.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open.
    request : Request
    graph : Graph, optional
        Open.

    Returns
    -------
    Way

    Raises
    ------
    CompatError
        If the release can't be told, a step needs what is not given, or the
        graph is that of another run.
    """
    checkpoint.state_dict()
    refuse_malformed(checkpoint)
    known = _stamp(checkpoint.data)
    origin, evidence = _origin(checkpoint.data, request)
    facts = request.facts or facts_in(known)
    told = bare_weights.told_by_facts(checkpoint, facts)
    bare_weights.refuse_untold(checkpoint, told, origin, request.target)
    run = saved_run_from_checkpoint(
        _Content({**checkpoint.data, **_instead(checkpoint, told, request)}),
        graph=graph.tensors if graph else None,
        graph_format=graph.format if graph else "legacy",
        statistics=facts.statistics() if facts else None,
        grid_shape=facts.grid_shape if facts else None,
        lazy=True,
    )
    done = set(_record(checkpoint.data).get("migrations", ()))
    steps = bare_weights.without_hyper_parameters(
        _plan(origin, request.target, run), told
    )
    steps = [step for step in steps if step.id not in done]
    if graph is not None and steps:
        refuse_misfit(run, graph)
        refuse_another(known, graph)
    names = list(run.state_dict)
    if names and Version(origin) >= FIRST_WITH_PREFIX and not has_prefix(names):
        raise without_prefix(names[0])
    notes = bare_weights.notes(told, origin, request.target)
    if request.drop_optimizer:
        notes.append("The optimizer starts anew: its state was left behind.")
    return UpgradePlan(origin, evidence, run, steps, facts, notes)


def _instead(
    checkpoint: Checkpoint, told: dict[str, Any] | None, request: Request
) -> dict[str, Any]:
    """Give what takes the place of parts of the file."""
    instead: dict[str, Any] = {}
    if told:
        instead["hyper_parameters"] = told
    if request.drop_optimizer and "optimizer_states" in checkpoint.data:
        # Without the key, Lightning would not go on with the training.
        instead["optimizer_states"] = []
    return instead


def _plan(origin: str, target: str, run: SavedRun) -> list[Migration]:
    try:
        return plan(run, target, origin=origin)
    except CompatError as error:
        missing = error.facts.get("missing")
        if missing is None:
            raise
        options = {_OPTIONS[need]: None for need in str(missing).split(", ")}
        raise CompatError(
            error.what,
            facts=error.facts,
            remedy=f"Give {' and '.join(options)}, of what it was trained "
            "with.",
        ) from None


def carry(
    checkpoint: Checkpoint, way: UpgradePlan, request: Request
) -> tuple[dict[str, Any], SavedRun, list[str]]:
    """Apply the steps.

    Parameters
    ----------
    checkpoint : Checkpoint
        Open; its tree stays as it is.
    way : Way
    request : Request

    Returns
    -------
    tree : dict
        To be written, with what did not change still in the old file.
    run : SavedRun
        As it is now, each tensor in the type of its file.
    notes : list of str
        What the user is to know.

    Raises
    ------
    CompatError
        If a step refuses.
    """
    # Folds are rounded once, at the end.
    run = apply(way.run, way.steps).cast_back()
    parts = to_checkpoint_dict(run)
    hyper_parameters = parts["hyper_parameters"]
    notes = list(way.notes)
    if (
        "config" not in hyper_parameters
        and "args" in hyper_parameters
        and Version(request.target) >= _FIRST_WITH_CONFIG
    ):
        given = way.facts.config if way.facts else None
        hyper_parameters["config"] = stand_in(given or DEFAULT)
        if not given:
            notes.append(_UNIFORM)
    reset = {
        name: reason
        for optimizer in run.optimizers
        for name, reason in optimizer.reset.items()
    }
    notes += [f"Optimizer, {name}: {reason}." for name, reason in reset.items()]
    tree = dict(checkpoint.data)
    tree.update(
        {name: part for name, part in parts.items() if name in checkpoint.data}
    )
    # Its metadata are versions by names of modules that are others now; torch
    # takes a missing one for the oldest, and no module here has a second.
    tree["state_dict"] = type(checkpoint.data["state_dict"])(
        parts["state_dict"]
    )
    tree[STAMP] = _new_record(checkpoint.data, way, run, request, reset)
    return tree, run, notes


def _origin(data: Mapping[str, Any], request: Request) -> tuple[str, list[str]]:
    layout = _record(data).get("layout")
    if request.origin is None or layout is not None:
        found = detect_origin(data)
        if request.origin not in (None, found.release):
            raise CompatError(
                "The checkpoint was upgraded before, and not to the release "
                "that --from says.",
                facts={"--from": request.origin, "found": found.release},
                remedy="Leave --from out.",
            )
        return found.release, [str(each) for each in found.evidence]
    return request.origin, ["--from"]


def _record(data: Mapping[str, Any]) -> Mapping[str, Any]:
    record = data.get(STAMP)
    return record if isinstance(record, dict) else {}


def _stamp(data: Mapping[str, Any]) -> Mapping[str, Any]:
    stamp = _record(data).get(ENTRY)
    return stamp if isinstance(stamp, dict) else {}


def _new_record(
    data: Mapping[str, Any],
    way: UpgradePlan,
    run: SavedRun,
    request: Request,
    reset: Mapping[str, str],
) -> dict[str, Any]:
    """Give the record of what was done, with that of earlier upgrades."""
    before = _record(data)
    ids = [*before.get("migrations", ()), *run.applied]
    fresh = stamp(Version(request.target), ids)[STAMP]
    known = _stamp(data)
    if known.get("graph") and run.graph:
        new = fingerprint(run.graph)
        graph = {**known["graph"], "fingerprint": new}
        before = {**before, ENTRY: {**known, "graph": graph}}
    return {
        **before,
        **fresh,
        "origin": before.get("origin", way.origin),
        "evidence": list(before.get("evidence", way.evidence)),
        "tool": f"pytest-nlam-compat {__version__}",
        "optimizer_reset": {**before.get("optimizer_reset", {}), **reset},
    }
