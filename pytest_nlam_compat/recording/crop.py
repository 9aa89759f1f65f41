"""Cut a part out of the grid of a dataset and its graph; the mesh stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_nlam_compat.references.reference import Dataset

_PER_NODE = ("static", "boundary_mask")
_SERIES = ("state", "forcing")


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
