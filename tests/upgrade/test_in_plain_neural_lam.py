"""Upgraded files in a process with only neural-lam, and no plugin of ours."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from owned_runs import IDS

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.judging.grade import grade_outputs, recorded_rounding
from pytest_nlam_compat.under_test.reference_under_test import (
    ReferenceUnderTest,
)

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("plain_neural_lam.py")

# neural-lam's loader knows only the models of its command line.
BY_THE_LOADER = [name for name in IDS if "graph_efm" not in name]


def upgrade(owned, folder):
    """Upgrade a case as its owner would; return the file for the new code."""
    folder.mkdir()
    graph = folder / "graph" / owned.reference.graph_name
    graph.parent.mkdir()
    status = main(
        [
            *("upgrade", str(owned.checkpoint)),
            *("-o", str(folder / "upgraded.ckpt")),
            *("--graph", str(owned.graph), "--graph-out", str(graph)),
            *("--statistics", str(owned.statistics)),
        ]
    )
    assert status == 0
    return folder / "upgraded.ckpt"


def describe(owned, checkpoint, folder):
    """Write what the script needs, without anything of ours."""
    reference = owned.reference
    np.savez(folder / "dataset.npz", **reference.dataset.arrays)
    batch = reference.group("batch")
    np.savez(folder / "batch.npz", **{k: v.numpy() for k, v in batch.items()})
    (folder / "config.yaml").write_bytes(
        (owned.folder / "config.yaml").read_bytes()
    )
    described = {
        "names": reference.dataset.names,
        "step_hours": reference.dataset.step_hours,
        "checkpoint": str(checkpoint),
    }
    (folder / "described.json").write_text(json.dumps(described))


@pytest.fixture(scope="module")
def rolled_out(owned, tmp_path_factory):
    """Outputs of all cases; one process, since its imports take seconds."""
    root = tmp_path_factory.mktemp("upgraded")
    for name in BY_THE_LOADER:
        folder = root / name
        describe(owned(name), upgrade(owned(name), folder), folder)
    folders = [str(root / name) for name in BY_THE_LOADER]
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, *folders],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize("name", BY_THE_LOADER)
def test_an_upgraded_checkpoint_gives_the_old_outputs(
    name, owned, rolled_out, current_adapter, tmp_path
):
    reference = owned(name).reference
    subject = ReferenceUnderTest(
        reference, current_adapter, tmp_path, torch.device("cpu")
    )
    obtained = {
        output: torch.from_numpy(values)
        for output, values in np.load(rolled_out / name / "outputs.npz").items()
    }
    assert "prediction" in obtained
    found = grade_outputs(
        reference, obtained, lambda: recorded_rounding(subject)
    )
    assert found.passed, found.worst
