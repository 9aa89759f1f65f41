"""Makes a reference as large as a real checkpoint, for `upgrade.py`.

Called as ``python enlarging.py ARCHIVE FILE MEGABYTES``. The graph and the
statistics of the reference go beside FILE.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.migrations.saved_run import Statistics
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.upgrade.dataset_facts import DatasetFacts

CASE = "graph_lam"
# 4 MB each, as a Linear of 1024 to 1024 has; with its two moments 12 MB.
SIDE = 1024
MEGABYTES_EACH = 3 * 4 * SIDE * SIDE / 1e6


def main(archive: Path, target: Path, megabytes: int) -> None:
    """Write the checkpoint, the graph and the statistics."""
    reference = Reference(ReleaseArchive(archive), CASE)
    with tempfile.TemporaryDirectory() as folder:
        written = reference.write(Path(folder))
        graph = reference.graph_folder(Path(folder))
        beside = target.parent / "graph"
        if not beside.exists() or str(reference.release) < "0.6":
            beside.mkdir(exist_ok=True)
            for file in graph.iterdir():
                (beside / file.name).write_bytes(file.read_bytes())
            facts = facts_of(reference)
            (target.parent / "statistics.json").write_bytes(
                facts.to_bytes(".json")
            )
        with read_checkpoint(written) as checkpoint:
            grow(checkpoint.data, round(megabytes / MEGABYTES_EACH))
            write_checkpoint(checkpoint.data, target)


def facts_of(reference: Reference) -> DatasetFacts:
    """Return what the migrations need of the dataset."""
    found = Statistics.of_dataset(reference.dataset)
    return DatasetFacts(
        {name: array.tolist() for name, array in found.arrays.items()},
        tuple(found.static_names),
        reference.dataset.grid_shape,
    )


def grow(data: dict[str, Any], count: int) -> None:
    """Add parameters at the end, each with its moments."""
    random = torch.Generator().manual_seed(0)
    (optimizer,) = data["optimizer_states"]
    positions = optimizer["param_groups"][0]["params"]
    (step, *_) = (kinds["step"] for kinds in optimizer["state"].values())
    for index in range(count):
        name = f"processor.module_{index}.large.weight"
        data["state_dict"][name] = matrix(random)
        optimizer["state"][len(positions)] = {
            "step": step,
            "exp_avg": matrix(random),
            "exp_avg_sq": matrix(random),
        }
        positions.append(len(positions))


def matrix(random: torch.Generator) -> torch.Tensor:
    """Draw a weight."""
    return torch.rand((SIDE, SIDE), generator=random)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
