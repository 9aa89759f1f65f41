"""One frozen case of one release."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from safetensors.torch import load
from torch import Tensor

from pytest_nlam_compat.references.dataset import Dataset
from pytest_nlam_compat.references.format import Archive
from pytest_nlam_compat.references.trace import Call, Trace, kind_of


class Reference:
    """What a release computed, and all that is needed to run it again.

    Parameters
    ----------
    archive : Archive
    case : str
    """

    def __init__(self, archive: Archive, case: str) -> None:
        self._archive = archive
        self.case = case

    @property
    def release(self) -> Version:
        """Release that wrote it."""
        return self._archive.release

    @property
    def id(self) -> str:
        """Release and case, as in ``0.6.0-hi_lam``."""
        return f"{self.release}-{self.case}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Content of ``case.json``."""
        content: dict[str, Any] = json.loads(
            self._archive.read(self.case, "case.json")
        )
        return content

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Content of ``tensors.safetensors``."""
        return self._load("tensors.safetensors")

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        """Weights and persistent buffers, as in the checkpoint; by name."""
        return self._load("state_dict.safetensors")

    def _load(self, member: str) -> dict[str, Tensor]:
        # safetensors gives them in another order in each process.
        tensors = load(self._archive.read(self.case, member))
        return dict(sorted(tensors.items()))

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return tensors below a prefix, for example ``golden64``."""
        start = f"{prefix}/"
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that the model was trained on."""
        return Dataset(
            names={
                category: tuple(names)
                for category, names in self.description["features"].items()
            },
            arrays={
                name: tensor.numpy()
                for name, tensor in self.group("dataset").items()
            },
            step_hours=self.description["step_hours"],
            start=self.description["start"],
        )

    def noise(self, run: str) -> list[Tensor]:
        """Noise drawn in ``"rollout"`` or ``"loss"``, in order."""
        drawn = self.group(f"noise/{run}")
        return [drawn[key] for key in sorted(drawn, key=int)]

    @cached_property
    def trace(self) -> Trace:
        """The float64 trace of the first autoregressive step."""
        stored = self.description["trace"]
        columns = self.group("trace/columns")
        return Trace(
            calls=[
                Call(module, kind_of(kind), tuple(inputs), tuple(outputs))
                for module, kind, inputs, outputs in stored["calls"]
            ],
            shapes=[tuple(shape) for shape in stored["shapes"]],
            rows=self.tensors["trace/rows"],
            columns={int(row): value for row, value in columns.items()},
        )

    def batch(
        self, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the recorded batch, standardised, as the model saw it.

        Parameters
        ----------
        dtype : torch.dtype
            Of the first three.

        Returns
        -------
        init_states : Tensor
            (B, 2, N, d).
        target_states : Tensor
            (B, T, N, d).
        forcing : Tensor
            (B, T, N, f * window).
        target_times : Tensor
            (B, T) int64, nanoseconds since 1970.
        """
        batch = self.group("batch")
        return (
            batch["init_states"].to(dtype),
            batch["target_states"].to(dtype),
            batch["forcing"].to(dtype),
            batch["target_times"],
        )

    def write(self, into: Path) -> Path:
        """Write checkpoint, configuration and graph into a folder.

        Parameters
        ----------
        into : pathlib.Path

        Returns
        -------
        pathlib.Path
            The checkpoint.
        """
        for prefix in ("checkpoint.ckpt", "config.yaml", "graph/"):
            self._archive.extract(self.case, prefix, into)
        return into / "checkpoint.ckpt"

    @property
    def sample_indices(self) -> list[int]:
        """Samples of the dataset that make up the batch."""
        indices = self.description.get("sample_indices")
        return list(indices or range(self.description["samples"]))

    @property
    def graph_as_fed(self) -> dict[str, Tensor | list[Tensor]]:
        """Edge features as the release's model saw them, by file stem.

        References before 0.4.0 have them: their golden was made from
        features that were divided by the longest edge in float32.
        """
        fed: dict[str, Any] = {}
        for name, tensor in self.group("graph_as_fed").items():
            stem, _, level = name.partition(".")
            if level:
                fed.setdefault(stem, {})[int(level)] = tensor
            else:
                fed[stem] = tensor
        return {
            stem: [value[level] for level in sorted(value)]
            if isinstance(value, dict)
            else value
            for stem, value in fed.items()
        }

    @property
    def graph_name(self) -> str:
        """Name of the graph directory in ``args``."""
        return str(self.description["graph"])

    def graph_folder(self, written: Path) -> Path:
        """Return the graph directory below a folder given to `write`."""
        return written / "graph" / self.graph_name


def read_graph(folder: Path) -> dict[str, Any]:
    """Read the tensors of a graph directory by file stem.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    dict of str to (Tensor or list of Tensor)
    """
    return {
        path.stem: torch.load(path, map_location="cpu", weights_only=True)
        for path in sorted(folder.glob("*.pt"))
    }


def graph_format(folder: Path) -> str:
    """Return ``spec_version`` of a graph directory, ``"legacy"`` without.

    ``metainfo.yaml`` (from #323 on) has that one entry.
    """
    metainfo = folder / "metainfo.yaml"
    if not metainfo.exists():
        return "legacy"
    for line in metainfo.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "spec_version":
            return value.strip().strip("'\"")
    return "legacy"


def write_graph(graph: dict[str, Any], graph_format: str, folder: Path) -> None:
    """Write a graph directory.

    Parameters
    ----------
    graph : dict of str to (Tensor or list of Tensor)
    graph_format : str
        Written to ``metainfo.yaml`` unless ``"legacy"``.
    folder : pathlib.Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stem, tensors in graph.items():
        torch.save(tensors, folder / f"{stem}.pt")
    if graph_format != "legacy":
        text = f"spec_version: {graph_format}\n"
        (folder / "metainfo.yaml").write_text(text, encoding="utf-8")
