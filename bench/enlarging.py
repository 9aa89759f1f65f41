"""Makes a reference as large as a real checkpoint, for `upgrade.py`.

Called as ``python enlarging.py ARCHIVE FILE MEGABYTES``. The graph and the
statistics of the reference go beside FILE.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.migrations.releases import parameter_names
from pytest_nlam_compat.migrations.saved_run import Statistics
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts

CASE = "graph_lam"
# What has as many inputs as the dataset, or as many outputs.
_FIRST = re.compile(r"embedder\.0\.weight$")
_LAST = re.compile(r"output_map\.2\.(weight|bias)$")
_OUTER = re.compile(f"{_FIRST.pattern}|{_LAST.pattern}")


def main(archive: Path, target: Path, megabytes: int) -> None:
    """Write the checkpoint, the graph and the statistics."""
    reference = Reference(ReleaseArchive(archive), CASE)
    with tempfile.TemporaryDirectory() as folder:
        written = reference.write(Path(folder))
        graph = reference.graph_folder(Path(folder))
        shutil.copytree(graph, target.with_suffix(".graph") / graph.name)
        statistics = facts_of(reference).to_bytes(".json")
        target.with_suffix(".json").write_bytes(statistics)
        with read_checkpoint(written) as checkpoint:
            grow(checkpoint.data, megabytes)
            write_checkpoint(checkpoint.data, target)


def facts_of(reference: Reference) -> DatasetFacts:
    """Return what the migrations need of the dataset."""
    found = Statistics.of_dataset(reference.dataset)
    return DatasetFacts(
        {name: array.tolist() for name, array in found.arrays.items()},
        tuple(found.static_names),
        reference.dataset.grid_shape,
    )


def grow(data: dict[str, Any], megabytes: int) -> None:
    """Widen all hidden layers, and draw weights and moments anew."""
    random = torch.Generator().manual_seed(0)
    args = data["hyper_parameters"]["args"].state
    weights = data["state_dict"]
    narrow = args["hidden_dim"]
    # A vector, as of LayerNorm, grows with the width alone.
    inner = [
        name
        for name, weight in weights.items()
        if not _OUTER.search(name) and len(weight.shape) == 2
    ]
    squares = sum(prod(weights[n].shape) for n in inner) / narrow**2
    args["hidden_dim"] = wide = round(sqrt(megabytes * 1e6 / 12 / squares))

    def widened(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        sizes = [size * wide // narrow for size in shape]
        if _FIRST.search(name):
            sizes[1:] = shape[1:]
        elif _LAST.search(name):
            sizes[0] = shape[0]
        return torch.rand(sizes, generator=random)

    names = parameter_names(weights)
    for name in names:
        weights[name] = widened(name, weights[name].shape)
    (optimizer,) = data["optimizer_states"]
    for name, moments in zip(names, optimizer["state"].values(), strict=True):
        for kind in ("exp_avg", "exp_avg_sq"):
            moments[kind] = widened(name, moments[kind].shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
