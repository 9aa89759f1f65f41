"""Cut the first samples, and a part of the grid, out of a user's dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.reference import CATEGORIES, Dataset

# Of a standardized value, in units of the largest one before.
_ROUNDINGS = 8
_PER_NODE = ("static", "boundary_mask")
_SERIES = ("state", "forcing")
_REMEDY = "Pass the config.yaml of the dataset that the model was trained on."


def extract(datastore: Any, samples: int, length: int) -> Dataset:
    """Copy what the first samples of the training split need.

    Parameters
    ----------
    datastore : neural_lam.datastore.base.BaseDatastore
    samples : int
    length : int
        Times of an analysis that the samples need; of forecasts, there is one
        for each sample, with all of its steps.

    Raises
    ------
    CompatError
        There are not as many, or values are missing or not finite.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    names: dict[str, tuple[str, ...]] = {}
    time = "analysis_time" if datastore.is_forecast else "time"
    wanted = samples if datastore.is_forecast else length
    start = ""
    for category in CATEGORIES:
        values = datastore.get_dataarray(category=category, split="train")
        if values is None:
            if category == "state":
                raise CompatError(
                    "The dataset has no state variables.", remedy=_REMEDY
                )
            names[category] = ()
            continue
        if time in values.dims:
            if values.sizes[time] < wanted:
                raise CompatError(
                    "The training split of the dataset is too short.",
                    facts={
                        f"{time}s": values.sizes[time],
                        f"needed for {samples} samples": wanted,
                    },
                    remedy="Pin fewer samples, or pass a longer dataset.",
                )
            values = values.isel({time: slice(0, wanted)})
        if category == "state":
            start = str(values[time].values[0].astype("datetime64[s]"))
        values = values.transpose(*datastore.expected_dim_order(category))
        names[category] = tuple(map(str, datastore.get_vars_names(category)))
        arrays[category] = np.asarray(values.values, "f4")
        moments = datastore.get_standardization_dataarray(category)
        for name in ("mean", "std"):
            arrays[f"{category}_{name}"] = _floats(
                moments[f"{category}_{name}"]
            )
            if category == "state":
                diff = moments[f"state_diff_{name}_standardized"]
                arrays[f"state_diff_{name}"] = _floats(diff)
    nodes = arrays["state"].shape[-2]
    for category in {*CATEGORIES} - arrays.keys():
        times = arrays["state"].shape[: 1 + datastore.is_forecast]
        shape = () if category == "static" else times
        arrays[category] = np.zeros((*shape, nodes, 0), "f4")
        for name in ("mean", "std"):
            arrays[f"{category}_{name}"] = np.zeros(0, "f4")
    arrays["boundary_mask"] = _floats(datastore.boundary_mask)
    xy = _floats(datastore.get_xy("state", stacked=True))
    regular = getattr(datastore, "grid_shape_state", None)
    grid = (regular.x, regular.y) if regular else (nodes, 1)
    arrays["xy"] = xy.reshape(*grid, 2)
    _refuse_not_finite(arrays)
    hours = datastore.step_length
    if isinstance(hours, timedelta):  # from neural-lam 0.6 on
        hours = hours / timedelta(hours=1)
        hours = int(hours) if hours == int(hours) else hours
    return Dataset(names, arrays, hours, start)


def _floats(values: Any) -> npt.NDArray[Any]:
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype("f4")


def _refuse_not_finite(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    wrong = [n for n, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise CompatError(
            "The dataset has values that are missing or not finite.",
            facts={"in": ", ".join(sorted(wrong))},
            remedy="Pass a dataset without gaps: what a model makes of them "
            "can't be compared.",
        )


def refuse_unlike(dataset: Dataset, found: Any, expected: Any) -> None:
    """Raise unless the copy gives the batch that the dataset itself gives.

    To rounding: the copy is rounded to float32 before it is standardized, as
    from neural-lam 0.7 on, and a dataset may be so afterwards. The times of
    forecasts differ, which follow each other in the copy.

    `found` and `expected` are the parts of a batch of the copy `dataset`, and
    of the user's.
    """
    largest = max(
        float(
            (np.abs(dataset.arrays[each]) / dataset.arrays[f"{each}_std"]).max()
        )
        for each in ("state", "forcing")
        if dataset.names[each]
    )
    limit = _ROUNDINGS * torch.finfo(torch.float32).eps * largest
    parts = ("initial states", "target states", "forcing", "times")
    wrong = [
        name
        for name, one, other in zip(parts, found, expected, strict=True)
        if one.shape != other.shape
        or (
            not torch.equal(one, other)
            if name == "times" and not dataset.is_forecast
            else name != "times" and bool(((one - other).abs() > limit).any())
        )
    ]
    if wrong:
        raise CompatError(
            "The samples that would be pinned are not those that the dataset "
            "gives.",
            facts={"differ": ", ".join(wrong)},
            remedy="Please report it, with the kind of the datastore and its "
            "configuration.",
        )


def crop(
    dataset: Dataset, graph: Mapping[str, Any], size: int
) -> tuple[Dataset, dict[str, Any], Tensor]:
    """Keep size x size nodes in the middle, and what the mesh needs.

    That is a node that each mesh node receives from, and those up to the first
    one with an edge: up to 0.5, neural-lam counts nodes by the edges that they
    have. The nodes that are left are one row to the dataset.

    Parameters
    ----------
    dataset : Dataset
        On N nodes.
    graph : mapping of str to (Tensor or list of Tensor)
        Contents of the graph directory, by file stem.
    size : int
        Nodes along each side.

    Returns
    -------
    dataset : Dataset
        On K nodes.
    graph : dict
        Without the edges of the others.
    kept : Tensor
        (K,) which of the nodes they were.
    """
    keep = np.zeros(dataset.grid_shape, dtype=bool)
    first = [max(0, (side - size) // 2) for side in keep.shape]
    keep[tuple(slice(start, start + size) for start in first)] = True
    g2m, m2g = graph["g2m_edge_index"], graph["m2g_edge_index"]
    # The mesh is counted before the grid, or both are counted from 0.
    offset = int(m2g[1].min())
    senders, receivers = g2m[0].numpy() - offset, m2g[1].numpy() - offset
    wanted = torch.from_numpy(keep.reshape(-1))
    _, of_each = np.unique(g2m[1].numpy(), return_index=True)
    wanted[senders[of_each]] = True
    wanted[: senders.min() + 1] = True
    wanted[receivers[int(m2g[0].argmin())]] = True
    number = wanted.cumsum(0) - 1 + offset
    new = dict(graph)
    for stem, nodes, row in (("g2m", senders, 0), ("m2g", receivers, 1)):
        chosen = wanted[nodes]
        edges = graph[f"{stem}_edge_index"][:, chosen].clone()
        edges[row] = number[nodes[chosen.numpy()]]
        new[f"{stem}_edge_index"] = edges
        new[f"{stem}_features"] = graph[f"{stem}_features"][chosen]
    kept = wanted.nonzero().flatten()
    arrays = {**dataset.arrays}
    for name in _PER_NODE:
        arrays[name] = arrays[name][kept]
    for name in _SERIES:
        arrays[name] = arrays[name][..., kept, :]
    arrays["xy"] = arrays["xy"].reshape(-1, 2)[kept].reshape(-1, 1, 2)
    return replace(dataset, arrays=arrays), new, kept
