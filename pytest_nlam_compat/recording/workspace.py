"""Prepare the dataset, configuration and graph of a case."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.datastore import StoredDatastore
from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.numerics.torch_settings import building
from pytest_nlam_compat.recording import synthesis
from pytest_nlam_compat.recording.cases import AR_STEPS, CLAMPING, WEIGHTS, Case
from pytest_nlam_compat.references.reference import (
    Dataset,
    read_graph,
    write_graph,
)

_COMMON = {
    "--hidden_dim": "4",
    "--hidden_layers": "1",
    "--processor_layers": "2",
}


@dataclass
class Workspace:
    """Everything needed to build the model of a case, in either precision."""

    case: Case
    adapter: Adapter
    dataset: Dataset
    hyper_parameters: dict[str, Any]
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The file that the release writes."""
        return self.folder / "checkpoint.ckpt"

    def datastore(self, dtype: torch.dtype) -> StoredDatastore:
        """Return the dataset, with its graph beside it."""
        name = "f4" if dtype is torch.float32 else "f8"
        return StoredDatastore(self.dataset, self.folder / name, name)

    @property
    def graph(self) -> Path:
        """Folder of the graph, in float32."""
        return self.folder / "f4" / "graph" / self.case.graph

    def widen_graph(self) -> None:
        """Write the graph with its features as float64."""
        run = SavedRun({}, {}, graph=read_graph(self.graph)).double()
        target = self.folder / "f8" / "graph" / self.case.graph
        write_graph(run.graph, graph_format(self.graph), target)

    def build(self, dtype: torch.dtype) -> nn.Module:
        """Build the untrained model."""
        with building(dtype):
            module = self.adapter.build(
                self.hyper_parameters,
                self.datastore(dtype),
                self.case.predictor,
            )
        return module.to(dtype)

    def load(self, saved: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
        """Build a new model and load the saved weights."""
        module = self.build(dtype)
        # They are cast where they are copied into the model.
        state_dict = dict(saved["state_dict"])
        self.adapter.load_strictly(
            module, {"state_dict": state_dict, "optimizer_states": []}
        )
        return module


def prepare(case: Case, adapter: Adapter, folder: Path, seed: int) -> Workspace:
    """Draw the dataset, write configuration and graph."""
    arguments = {
        "--config_path": str(folder / "config.yaml"),
        "--graph": case.graph,
        **({} if case.predictor else {"--model": case.model}),
        **_COMMON,
        **case.arguments,
    }
    argv = [word for pair in arguments.items() for word in pair if word]
    args = adapter.parse_arguments(argv)
    args.config_path = "config.yaml"  # saved without a path of this machine
    (folder / "config.yaml").write_text(_config(case), encoding="utf-8")
    config = adapter.config(folder / "config.yaml")
    dataset = synthesis.dataset(case, series_length(args, case.samples), seed)
    work = Workspace(
        case=case,
        adapter=adapter,
        dataset=dataset,
        # A script that trains Graph-EFM has no command line to save.
        hyper_parameters={
            "config": config,
            "args": None if case.predictor else args,
        },
        folder=folder,
    )
    adapter.create_graph(
        work.datastore(torch.float32),
        work.graph,
        levels=case.levels,
        hierarchical=case.hierarchical,
    )
    work.widen_graph()
    return work


def series_length(args: Namespace, samples: int) -> int:
    """Return how many times of an analysis the first samples need."""
    past = getattr(args, "num_past_forcing_steps", 1)
    future = getattr(args, "num_future_forcing_steps", 1)
    # One more than needed: up to 0.5 a dataset is one sample shorter.
    return int(max(2, past) + AR_STEPS + future + samples)


def _config(case: Case) -> str:
    """Return the YAML configuration that a user would write."""
    training: dict[str, Any] = {}
    if case.weighting:
        training["state_feature_weighting"] = {
            "__config_class__": "ManualStateFeatureWeighting",
            "weights": WEIGHTS,
        }
    if case.clamping:
        training["output_clamping"] = CLAMPING
    config = {
        "datastore": {"kind": "mdp", "config_path": "stored.yaml"},
        **({"training": training} if training else {}),
    }
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text
