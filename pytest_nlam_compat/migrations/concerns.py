"""Predicates of the history: whether a step concerns a saved run at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    has_hyper_parameter,
    hyper_parameter,
)
from pytest_nlam_compat.migrations.operations.numbering import LEGACY
from pytest_nlam_compat.migrations.operations.segments import covers
from pytest_nlam_compat.migrations.operations.trees import holds_instance_of
from pytest_nlam_compat.migrations.saved_run import SavedRun

KIND = "neural_lam.config.DatastoreKindStr"


def holds(pattern: str) -> Callable[[SavedRun], bool]:
    """Make a predicate: whether a run has a module or a tensor.

    Parameters
    ----------
    pattern : str
        Whole segments, with wildcards as in `Rename`; under whatever parents,
        so that it is the same before and after ``forecaster.predictor``.

    Returns
    -------
    callable

    Examples
    --------
    >>> run = SavedRun({"forecaster.predictor.g2m_gnn.w": 0}, {})
    >>> holds("g2m_gnn")(run), holds("g2m")(run)
    (True, False)
    """

    def held(run: SavedRun) -> bool:
        return any(
            covers(pattern, inside)
            for name in run.state_dict
            for inside in _inside(name)
        )

    return held


def _inside(name: str) -> Iterable[str]:
    """Give a name without its parents, for each number of them."""
    segments = name.split(".")
    for first in range(len(segments)):
        yield ".".join(segments[first:])


def has_args(run: SavedRun) -> bool:
    """Tell whether the run says how its model is built."""
    return has_hyper_parameter(run, "args")


def has_config(run: SavedRun) -> bool:
    """Tell whether the run has a config, as since v0.3."""
    return has_hyper_parameter(run, "config.training")


def has_wandb_project(run: SavedRun) -> bool:
    """Tell whether the run names a project of wandb."""
    return has_hyper_parameter(run, "args.wandb_project")


def holds_kind(run: SavedRun) -> bool:
    """Tell whether the config was pickled with DatastoreKindStr."""
    # A config built in Python rather than read from YAML has a plain str.
    return holds_instance_of(run.hyper_parameters, KIND)


def of_mdp_datastore(run: SavedRun) -> bool:
    """Tell whether the run was trained on an mllam-data-prep dataset."""
    kind: Any = hyper_parameter(run, "config.datastore.kind")
    if isinstance(kind, InertObject):
        kind = kind.args[0]
    return bool(kind == "mdp")


def regenerated(run: SavedRun) -> bool:
    """Tell whether the graph of an older run was created anew, by 0.7."""
    # Only 0.7 writes a format, so an older run came by its graph later.
    return bool(run.graph) and run.graph_format != LEGACY


def regenerated_flat(run: SavedRun) -> bool:
    """Tell whether that happened to a model with one mesh level."""
    return regenerated(run) and "mesh_embedder.0.weight" in run.state_dict


def regenerated_hierarchical(run: SavedRun) -> bool:
    """Tell whether that happened to a hierarchical model."""
    return regenerated(run) and "mesh_embedders.0.0.weight" in run.state_dict
