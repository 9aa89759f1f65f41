"""Plan the migrations of an open checkpoint, and apply them in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from packaging.version import Version

from pytest_nlam_compat import __version__
from pytest_nlam_compat.checkpoints.pickler import portable
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations import planning, reading, releases
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.layout import check_weights
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.releases import WRAPPERS
from pytest_nlam_compat.migrations.repository import raise_on_duplicates
from pytest_nlam_compat.migrations.saved_run import SavedRun, Statistics
from pytest_nlam_compat.migrations.stamps import STAMP, stamp
from pytest_nlam_compat.upgrade import graphs, stamping, weight_sets
from pytest_nlam_compat.upgrade.configuration import DEFAULT, inert_config
from pytest_nlam_compat.upgrade.consolidated import as_checkpoint
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts
from pytest_nlam_compat.upgrade.inspection import tensors
from pytest_nlam_compat.upgrade.request import OPTIONS, UpgradeRequest
from pytest_nlam_compat.upgrade.stamping import facts_in, record_in, stamp_in
from pytest_nlam_compat.upgrade.trust import refuse_malformed

_FIRST_WITH_CONFIG = Version("0.3.0")
_OF_OPTIMIZER = ("optimizer_states", "lr_schedulers")
_DEFAULT_CONFIG_NOTE = (
    "The checkpoint has no configuration, like all before v0.3.0. The new one "
    "has one with equal weights of all variables, which matters only for "
    "training. To write another one, pass --datastore CONFIG."
)


class UpgradePlan(NamedTuple):
    """How a checkpoint gets to the requested release."""

    origin: str  # the release whose layout the file has
    evidence: list[str]  # how that was detected
    data: Mapping[str, Any]  # the tree, without what the user drops
    run: SavedRun  # no tensor has been read
    steps: list[Migration]
    repository: list[str]  # ids of all steps that are not of a release
    facts: DatasetFacts | None  # from the user, or the file's own stamp
    notes: list[str]  # what to tell the user
    # Why the optimizers' moments can't be migrated, if they can't.
    opaque: CompatError | None
    graph_differs: str | None  # from that of the run: the graph's name
    is_changed: bool  # whether the new file differs from the old one


def plan_upgrade(
    checkpoint: Checkpoint,
    request: UpgradeRequest,
    graph: graphs.GraphDirectory | None,
) -> UpgradePlan:
    """Find the steps that an open checkpoint needs.

    Raises a CompatError if the release can't be detected, a step needs what was
    not passed, or the graph is not that of the run.
    """
    checkpoint.data, told = as_checkpoint(checkpoint.data)
    refuse_malformed(checkpoint)
    notes = [told] if told else []
    data = _prepared(checkpoint, request, notes)
    is_changed = bool(notes)
    known = stamp_in(data)
    facts = request.facts or facts_in(known)
    found = detect_origin(data, request.origin)
    origin = found.release
    evidence = [str(each) for each in found.evidence]
    between = [
        step
        for step in planning.in_order(HISTORY)
        if step.between(Version(origin), Version(request.target))
    ]
    only_weights = not data.get("hyper_parameters")
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
    if _is_of_release(record_in(data).get("repository", ()), origin):
        order = check_weights(
            data["state_dict"], data.get("hyper_parameters", {}), origin
        )
        # The optimizer counts the parameters in the order of the model.
        data["state_dict"] = {name: data["state_dict"][name] for name in order}
    opaque = _opaque(data)
    run = reading.saved_run_from_checkpoint(
        {**data, "optimizer_states": []} if opaque else data,
        graph=graph.tensors if graph else None,
        graph_format=graph.format if graph else "legacy",
        statistics=Statistics(facts.arrays, list(facts.static_names))
        if facts
        else None,
        grid_shape=facts.grid_shape if facts else None,
        lazy=True,
    )
    done = set(record_in(data).get("migrations", ()))
    steps = [
        step
        for step in _steps(run, origin, request)
        if step.id not in done
        and not (only_weights and step.on_hyper_parameters_only)
    ]
    own = {step.id for step in request.own}
    _refuse_unconcerned(checkpoint, origin, request, record_in(data), steps)
    graph_differs = None
    if graph is not None:
        name = graph_name(data)
        if request.graph_name_differs:
            name, graph_differs = None, graph.folder.resolve().name
            notes.append(
                f"The graph {graph_differs!r} was used, although the run names "
                f"{graph_name(data)!r}. If it is not the same graph, forecasts "
                "are wrong."
            )
        elif (known.get("graph") or {}).get("fingerprint"):
            name = None  # The fingerprint says more.
        graphs.refuse_mismatch(graph, run, known, name)
    return UpgradePlan(
        origin=origin,
        evidence=evidence,
        data=data,
        run=run,
        steps=steps,
        repository=[
            *record_in(data).get("repository", ()),
            *(step.id for step in steps if step.id in own),
        ],
        facts=facts,
        notes=notes,
        opaque=opaque,
        graph_differs=graph_differs,
        is_changed=is_changed or bool(steps),
    )


def graph_name(data: Mapping[str, Any]) -> str | None:
    """Return the name of a run's graph, None if the checkpoint has none."""
    arguments = data.get("hyper_parameters", {}).get("args")
    attributes = getattr(arguments, "attributes", {})
    name = attributes.get("graph")
    return name if isinstance(name, str) else None


def _prepared(
    checkpoint: Checkpoint, request: UpgradeRequest, notes: list[str]
) -> dict[str, Any]:
    """Return a tree without wrappers in names, and without what is dropped.

    Each change is noted, and so is each that is made in writing.
    """
    data = checkpoint.data
    devices = {each.storage.device for each in tensors(data).values()} - {"cpu"}
    if devices and not request.keep_device:
        notes.append(
            f"Tensors from {', '.join(sorted(devices))} were marked as on the "
            "CPU, so that they load on any machine."
        )
    paths = [n.path for n in checkpoint.globals if portable(n) != n]
    if paths:
        notes.append(
            f"Paths that can't be loaded on every system ({', '.join(paths)}) "
            "were replaced by ones that can."
        )
    weights, wrappers = weight_sets.unwrap(data["state_dict"])
    prepared = {**data, "state_dict": weights}
    if wrappers:
        told = ", ".join(f"{each} ({WRAPPERS[each]})" for each in wrappers)
        notes.append(f"Names of weights were unwrapped: without {told}.")
    held = {key for key in _OF_OPTIMIZER if data.get(key)}
    if request.drop_optimizer and held:
        notes.append("The optimizer starts anew: its state was left out.")
        # Without the keys, Lightning would not resume the training.
        prepared |= {key: [] for key in held}
        if "lr_schedulers" in held:
            notes.append(
                "So do the learning rate schedulers, which depend on it."
            )
    return prepared


def _opaque(data: Mapping[str, Any]) -> CompatError | None:
    """Tell why the moments can't be assigned to weights; None if they can."""
    try:
        for state in data.get("optimizer_states", []):
            reading.named_optimizer(state, data["state_dict"])
    except CompatError as error:
        return error
    return None


def _steps(
    run: SavedRun, origin: str, request: UpgradeRequest
) -> list[Migration]:
    """Plan, and name the options that provide what is missing."""
    registry = planning.Registry(Version(request.target), request.own)
    raise_on_duplicates(registry.own, registry.known)
    try:
        return [
            *planning.plan(run, request.target, origin=origin),
            *planning.steps_between(
                Version(origin), registry.layout, run, registry.own
            ),
        ]
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


def _refuse_unconcerned(
    checkpoint: Checkpoint,
    origin: str,
    request: UpgradeRequest,
    record: Mapping[str, Any],
    steps: Collection[Migration],
) -> None:
    """Refuse a file that the migrations of the repository do not fit."""
    done = {*record.get("migrations", ())}
    missing = [step for step in request.own if step.id not in done]
    if not missing:
        return
    if record.get("repository"):
        # Their predicates ask what the release wrote, which is gone.
        raise CompatError(
            "The file has some migrations of the repository, and not others.",
            facts={
                "file": checkpoint.path,
                "it has": ", ".join(map(printable, record["repository"])),
                "it lacks": ", ".join(step.id for step in missing),
            },
            remedy="Upgrade the file that it was made from.",
        )
    if not any(step in steps for step in missing):
        raise CompatError(
            "No migration of the repository applies to the file.",
            facts={
                "file": checkpoint.path,
                "written by": f"neural-lam {origin}",
                **{f"step {s.id}": _condition(s) for s in missing},
            },
            remedy="Pass the migrations that the file needs, or leave "
            "--migrations out.",
        )


def _is_of_release(repository: Iterable[str], release: str) -> bool:
    """Tell whether weights have the layout of a release, which can be checked.

    `repository` are the ids of the migrations of a repository that they went
    through; by now they may be in neural-lam's history.
    """
    history = planning.Registry(Version(release)).known
    return {*repository} <= {step.id for step in history}


def _condition(step: Migration) -> str:
    """Say which runs need a step."""
    since = f"for files before {step.since}"
    if step.oldest is not None:
        since = f"{since}, from {step.oldest} on"
    return since if step.when is None else f"{since}, with {step.when!r}"


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

    Returns the tree to write, the run after the steps, with each tensor in the
    type of its file, and what to tell the user.
    """
    # Steps compute in float64; rounded once, at the end.
    own = [step for step in plan.steps if step.id in plan.repository]
    released = [step for step in plan.steps if step not in own]
    run = planning.apply(plan.run, released)
    earlier = record_in(plan.data).get("repository", ())
    if _is_of_release(earlier, request.target):
        check_weights(run.state_dict, run.hyper_parameters, request.target)
    run = planning.apply(run, own).cast_back()
    if plan.opaque and _weights(run) != _weights(plan.run):
        raise plan.opaque
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
    if plan.opaque:
        # Of the same weights in the same order, it is valid as it is.
        del parts["optimizer_states"]
    data = plan.data
    tree = {**data, **{name: parts[name] for name in parts if name in data}}
    # A new table without the old one's metadata, which are versions by names
    # of modules that have changed: torch takes a missing one for the oldest,
    # and no module of neural-lam has a second.
    tree["state_dict"] = type(checkpoint.data["state_dict"])(
        parts["state_dict"]
    )
    tree[STAMP] = _new_record(data, plan, run, request.target, reset)
    return _with_sets(tree, plan, notes), run, notes


def _weights(run: SavedRun) -> list[int]:
    """Return the identities of a run's parameters, in order."""
    names = releases.parameter_names(run.state_dict)
    return [id(run.state_dict[name]) for name in names]


def _with_sets(
    tree: dict[str, Any], plan: UpgradePlan, notes: list[str]
) -> dict[str, Any]:
    """Migrate the other sets of weights in a tree, and note each."""

    def migrated(weights: dict[str, Any]) -> Mapping[str, Any]:
        run = replace(
            plan.run, state_dict=weights, optimizers=[], applied=()
        ).with_stored_types()
        return planning.apply(run, plan.steps).cast_back().state_dict

    names = list(plan.run.state_dict)
    new = {}
    for path, table in weight_sets.find_sets(tree, names).items():
        new[id(table)] = weight_sets.migrate_set(table, names, migrated)
        notes.append(f"A second set of weights was migrated too: {path}.")
    changed: dict[str, Any] = weight_sets.replaced(tree, new)
    return changed


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
    if run.graph:
        # To tell whether it is checked with this graph or with the old one.
        new = graphs.fingerprint(run.graph)
        before = {**before, "graph_fingerprint": new}
        if known.get("graph"):
            graph = {**known["graph"], "fingerprint": new}
            before[stamping.ENTRY] = {**known, "graph": graph}
    return {
        **before,
        **stamp(Version(target), ids)[STAMP],
        **({"repository": plan.repository} if plan.repository else {}),
        "origin": before.get("origin", plan.origin),
        "evidence": list(before.get("evidence", plan.evidence)),
        "tool": f"pytest-nlam-compat {__version__}",
        "optimizer_reset": {**before.get("optimizer_reset", {}), **reset},
        **({"graph_differs": name} if (name := plan.graph_differs) else {}),
    }
