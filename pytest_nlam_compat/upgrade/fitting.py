"""Whether a graph directory can be the one that a run was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.values import values
from pytest_nlam_compat.upgrade.graphs import Graph, fingerprint

PREFIX = "forecaster.predictor."
_SIDES = ("g2m", "m2g")


def refuse_misfit(run: SavedRun, graph: Graph) -> None:
    """Refuse a graph that does not fit the weights, itself or the grid.

    Parameters
    ----------
    run : SavedRun
        As its release wrote it.
    graph : Graph

    Raises
    ------
    CompatError
        Numbers of levels, features, edges or nodes differ.
    """
    _refuse_other_levels(run, graph)
    for side in _SIDES:
        features = _one(graph, f"{side}_features")
        edges = _one(graph, f"{side}_edge_index")
        _compare(
            graph,
            f"edges in {side}_features.pt and {side}_edge_index.pt",
            features.shape[0],
            edges.shape[-1],
        )
        weight = _weight(run, f"{side}_embedder.0.weight")
        if weight is not None:
            _compare(
                graph,
                f"features in {side}_features.pt and {side}_embedder",
                features.shape[-1],
                weight.shape[-1],
            )
    if run.grid_shape is not None:
        ids = values(_one(graph, "m2g_edge_index"))[1]
        _compare(
            graph,
            "grid nodes in m2g_edge_index.pt and the dataset",
            int(ids.max()) - int(ids.min()) + 1,
            run.grid_shape[0] * run.grid_shape[1],
        )


def refuse_another(stamp: Mapping[str, Any], graph: Graph) -> None:
    """Refuse a graph that is not the one of a checkpoint's stamp.

    Parameters
    ----------
    stamp : mapping
        Empty where there is none.
    graph : Graph

    Raises
    ------
    CompatError
        If their fingerprints differ.
    """
    expected = (stamp.get("graph") or {}).get("fingerprint")
    if expected is not None:
        found = fingerprint(graph.tensors)
        if found != expected:
            raise _misfit(graph, "fingerprint in the stamp", found, expected)


def _refuse_other_levels(run: SavedRun, graph: Graph) -> None:
    embedders = [name for name in run.state_dict if _is_level(name)]
    levels = graph.tensors.get("mesh_features")
    if not isinstance(levels, list):
        raise _misfit(graph, "files", "no list in mesh_features.pt", "one")
    # A flat model has one embedder, mesh_embedder, and one level.
    _compare(graph, "mesh levels", len(levels), len(embedders) or 1)


def _is_level(name: str) -> bool:
    module, _, rest = name.rpartition("mesh_embedders.")
    return name != rest and module in ("", PREFIX) and rest[-9:] == ".0.weight"


def _weight(run: SavedRun, name: str) -> Any:
    for known, tensor in run.state_dict.items():
        if known == name or known.endswith(f".{name}"):
            return tensor
    return None


def _one(graph: Graph, stem: str) -> Any:
    found = graph.tensors.get(stem)
    if found is None or isinstance(found, list):
        raise _misfit(graph, "files", f"no single tensor in {stem}.pt", "one")
    return found


def _compare(graph: Graph, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise _misfit(graph, what, found, expected)


def _misfit(
    graph: Graph, what: str, found: object, expected: object
) -> CompatError:
    return CompatError(
        "The graph does not belong to the checkpoint.",
        facts={
            "directory": graph.folder,
            "compared": what,
            "found": found,
            "expected": expected,
        },
        remedy="Give the graph directory that the run was trained with.",
    )
