"""Files for these tests: real ones of torch.save, and crafted ones."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nlam_compat.checkpoints.writer import ZipWriter


def lightning_checkpoint() -> dict[str, Any]:
    """Return what Lightning gives to torch.save after two steps of AdamW."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
    weights = model.state_dict()
    # A view of another weight, and one with strides of its own.
    weights["tied"] = weights["0.weight"][1:, :2]
    weights["transposed"] = weights["2.weight"].t()
    return {
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": weights,
        "loops": {"fit_loop": {"state_dict": {}, "done": {"ready": 2}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": weights["tied"]}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "args": argparse.Namespace(hidden_dim=64, lr=1e-3, graph="1level"),
        },
    }


@pytest.fixture
def lightning_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.ckpt"
    torch.save(lightning_checkpoint(), path)
    return path


@pytest.fixture(scope="session")
def lightning_bytes() -> bytes:
    stream = io.BytesIO()
    torch.save(lightning_checkpoint(), stream)
    return stream.getvalue()


Craft = Callable[..., Path]


@pytest.fixture
def craft(tmp_path: Path) -> Craft:
    """Write an archive around any pickle, with checksums that are right."""

    def craft(
        pickle: bytes,
        records: Mapping[str, bytes] | None = None,
        *,
        folder: str = "archive",
    ) -> Path:
        path = tmp_path / "crafted.ckpt"
        contents = {"data.pkl": pickle, "version": b"3\n", **(records or {})}
        with path.open("wb") as stream:
            writer = ZipWriter(stream, folder)
            for name, content in contents.items():
                writer.add(name, content)
            writer.finish()
        return path

    return craft
