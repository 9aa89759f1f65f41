"""A reference small enough to do its numbers in one's head."""

import pytest
import torch
from safetensors.torch import save

from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import (
    ReleaseArchive,
    to_json,
    write_archive,
)

STEPS, NODES = 2, 3


def plus_minus_one(columns):
    """Return (1, STEPS, NODES, columns) of mean 0 and deviation 1."""
    signs = torch.tensor([1.0, -1.0]).repeat(STEPS * NODES // 2)
    return signs.reshape(1, STEPS, NODES, 1).repeat(1, 1, 1, columns).double()


@pytest.fixture
def reference(tmp_path):
    """Return a case of 0.6.0 with the variables t2m and u10.

    Each is 1 or -1, so that differences are in units of its spread; its
    float32 noise is 1e-5 of that.
    """
    golden = plus_minus_one(2)
    tensors = {
        "golden64/prediction": golden,
        "golden64/pred_std": golden,
        "golden64/loss": torch.tensor([4.0]).double(),
        "golden32/prediction": golden.float(),
        "golden32/pred_std": golden.float(),
        "batch/init_states": golden.float(),
        "batch/target_states": golden.float(),
        "batch/forcing": plus_minus_one(6).float(),
        "batch/target_times": torch.tensor([[1, 2]]),
    }
    names = {"state": ["t2m", "u10"], "forcing": ["flux", "sst"], "static": []}
    case = {"features": names, "noise32": 1e-5, "step_hours": 3, "start": ""}
    content = {
        "case.json": to_json(case),
        "tensors.safetensors": save(
            {name: tensor.clone() for name, tensor in tensors.items()}
        ),
    }
    path = tmp_path / "0.6.0.zip"
    index = {"release": "0.6.0", "void": {}, "provenance": {}}
    write_archive(path, index, {"small": content})
    return Reference(ReleaseArchive(path), "small")
