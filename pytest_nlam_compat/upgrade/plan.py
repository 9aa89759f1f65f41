"""Plan the migrations of an open checkpoint, and apply them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import planning, reading, releases
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.stamps import STAMP, stamp
from pytest_nlam_compat.upgrade import graphs, stamping
from pytest_nlam_compat.upgrade.configuration import DEFAULT, inert_config
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts
from pytest_nlam_compat.upgrade.request import OPTIONS, UpgradeRequest
from pytest_nlam_compat.upgrade.stamping import facts_in, record_in, stamp_in
from pytest_nlam_compat.upgrade.trust import refuse_malformed
from pytest_nlam_compat.upgrade.weights import Weights

_FIRST_WITH_CONFIG = Version("0.3.0")
_DEFAULT_CONFIG_NOTE = (
    "The checkpoint has no configuration, like all before v0.3.0. The new one "
    "has one with equal weights of all variables, which matters only for "
    "training. To write another one, pass --datastore CONFIG."
)


@dataclass(frozen=True)
class UpgradePlan:
    """How a checkpoint gets to the requested release."""

    origin: str  # the release whose layout the file has
    evidence: list[str]  # how that was detected
    run: SavedRun  # no tensor has been read
    steps: list[Migration]
    facts: DatasetFacts | None  # from the user, or the file's own stamp
    notes: list[str]  # what to tell the user


@dataclass(frozen=True)
class _Content:
    """What `saved_run_from_checkpoint` reads, in place of a checkpoint."""

    data: Mapping[str, Any]


def plan_upgrade(
    checkpoint: Checkpoint,
    request: UpgradeRequest,
    graph: graphs.GraphDirectory | None,
) -> UpgradePlan:
    """Find the steps that an open checkpoint needs.

    Raises
    ------
    CompatError
        If the release can't be detected, a step needs what was not passed, or
        the graph is not that of the run.
    """
    refuse_malformed(checkpoint)
    data = dict(checkpoint.data)
    known = stamp_in(data)
    facts = request.facts or facts_in(known)
    origin, evidence = _origin(data, request.origin)
    between = [
        step
        for step in planning.in_order(HISTORY)
        if step.between(Version(origin), Version(request.target))
    ]
    notes = []
    only_weights = isinstance(checkpoint, Weights)
    if only_weights:
        if facts is not None and facts.config is not None:
            data["hyper_parameters"] = {"config": inert_config(facts.config)}
        else:
            _refuse_undecidable(checkpoint, between)
        changes = [s for s in between if s.on_hyper_parameters_only]
        if changes:
            notes.append(
                "The file has no hyper-parameters. These changed too, so build"
                f" the model with those of {request.target}:"
            )
            notes += [f"  {step.id}: {step.reason}" for step in changes]
    if request.drop_optimizer:
        notes.append("The optimizer starts anew: its state was left out.")
        if "optimizer_states" in data:
            # Without the key, Lightning would not resume the training.
            data["optimizer_states"] = []
    run = reading.saved_run_from_checkpoint(
        _Content(data),
        graph=graph.tensors if graph else None,
        graph_format=graph.format if graph else "legacy",
        statistics=facts.statistics() if facts else None,
        grid_shape=facts.grid_shape if facts else None,
        lazy=True,
    )
    done = set(record_in(data).get("migrations", ()))
    steps = [
        step
        for step in _steps(run, origin, request.target)
        if step.id not in done
        and not (only_weights and step.on_hyper_parameters_only)
    ]
    if graph is not None and steps:
        graphs.refuse_mismatch(graph, run, known)
    names = list(run.state_dict)
    if (
        names
        and Version(origin) >= releases.FIRST_WITH_PREFIX
        and not releases.has_prefix(names)
    ):
        raise releases.without_prefix(names[0])
    return UpgradePlan(origin, evidence, run, steps, facts, notes)


def _steps(run: SavedRun, origin: str, target: str) -> list[Migration]:
    """Plan, and name the options that provide what is missing."""
    try:
        return planning.plan(run, target, origin=origin)
    except CompatError as error:
        missing = error.facts.get("missing")
        if missing is None:
            raise
        options = {OPTIONS[need]: None for need in str(missing).split(", ")}
        raise CompatError(
            error.what,
            facts=error.facts,
            remedy=f"Pass {' and '.join(options)} of the training.",
        ) from None


def _refuse_undecidable(
    checkpoint: Checkpoint, between: list[Migration]
) -> None:
    """Refuse weights if hyper-parameters would decide about a step."""
    undecided = [step for step in between if step.decided_by]
    if undecided:
        raise CompatError(
            "Weights alone don't show whether they need a step that depends on "
            "a hyper-parameter.",
            facts={
                "file": checkpoint.path,
                "depends on": ", ".join(str(s.decided_by) for s in undecided),
                **{f"step {step.id}": step.reason for step in undecided},
            },
            remedy="Pass --datastore CONFIG of the training, or --statistics "
            'FILE with a "config".',
        )


def migrate(
    checkpoint: Checkpoint, plan: UpgradePlan, request: UpgradeRequest
) -> tuple[dict[str, Any], SavedRun, list[str]]:
    """Apply the steps of a plan; the checkpoint itself is not changed.

    Returns
    -------
    tree : dict
        To be written; what did not change is still in the old file.
    run : SavedRun
        After the steps, each tensor in the type of its file.
    notes : list of str
        What to tell the user.
    """
    # Steps compute in float64; rounded once, at the end.
    run = planning.apply(plan.run, plan.steps).cast_back()
    parts = reading.to_checkpoint_dict(run)
    parameters = parts["hyper_parameters"]
    notes = list(plan.notes)
    if (
        "config" not in parameters
        and "args" in parameters
        and Version(request.target) >= _FIRST_WITH_CONFIG
    ):
        config = plan.facts.config if plan.facts else None
        parameters["config"] = inert_config(config or DEFAULT)
        if not config:
            notes.append(_DEFAULT_CONFIG_NOTE)
    reset: dict[str, str] = {}
    for optimizer in run.optimizers:
        reset |= optimizer.reset
    notes += [f"Optimizer, {name}: {reason}." for name, reason in reset.items()]
    data = checkpoint.data
    tree = {**data, **{name: parts[name] for name in parts if name in data}}
    # A new table without the old one's metadata, which are versions by names
    # of modules that have changed: torch takes a missing one for the oldest,
    # and no module of neural-lam has a second.
    tree["state_dict"] = type(data["state_dict"])(parts["state_dict"])
    tree[STAMP] = _new_record(data, plan, run, request.target, reset)
    return tree, run, notes


def _origin(data: Mapping[str, Any], said: str | None) -> tuple[str, list[str]]:
    """Return the release of the layout, and how it was detected."""
    if said is not None and record_in(data).get("layout") is None:
        return said, ["--from"]
    found = detect_origin(data)
    if said not in (None, found.release):
        raise CompatError(
            "The checkpoint was upgraded before, to another release than "
            "--from.",
            facts={"--from": said, "found": found.release},
            remedy="Leave --from out.",
        )
    return found.release, [str(each) for each in found.evidence]


def _new_record(
    data: Mapping[str, Any],
    plan: UpgradePlan,
    run: SavedRun,
    target: str,
    reset: Mapping[str, str],
) -> dict[str, Any]:
    """Return the record of what was done, with that of earlier upgrades."""
    before = record_in(data)
    ids = [*before.get("migrations", ()), *run.applied]
    known = stamp_in(data)
    if known.get("graph") and run.graph:
        new = graphs.fingerprint(run.graph)
        graph = {**known["graph"], "fingerprint": new}
        before = {**before, stamping.ENTRY: {**known, "graph": graph}}
    if run.graph:
        # To tell whether it is checked with this graph or with the old one.
        before = {**before, "graph_fingerprint": graphs.fingerprint(run.graph)}
    return {
        **before,
        **stamp(Version(target), ids)[STAMP],
        "origin": before.get("origin", plan.origin),
        "evidence": list(before.get("evidence", plan.evidence)),
        "tool": f"pytest-nlam-compat {__version__}",
        "optimizer_reset": {**before.get("optimizer_reset", {}), **reset},
    }
