"""The graph of a saved run, on disk, where the current code looks for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pytest_nlam_compat.migrations import SavedRun
from pytest_nlam_compat.references.reference import write_graph


def put_graph(run: SavedRun, dtype: torch.dtype, folder: Path) -> None:
    """Write the graph of a saved run, unless it is there.

    Parameters
    ----------
    run : SavedRun
    dtype : torch.dtype
        Of its features.
    folder : pathlib.Path
    """
    if folder.exists():
        return

    def typed(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    graph = run.map_tensors(typed).graph
    write_graph(dict(graph), run.graph_format, folder)
