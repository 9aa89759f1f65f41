"""One frozen case of one release: its files, dataset, goldens and trace."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import EIO
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from packaging.version import Version
from safetensors.torch import load
from torch import Tensor

from pytest_nlam_compat.references.release_archive import ReleaseArchive

CATEGORIES = ("state", "forcing", "static")
SAMPLES = 5
MOMENTS = 3

# torch-geometric makes a class for each Sequential, with a random suffix.
_RANDOM_SUFFIX = re.compile(r"(?<=^Sequential)_[0-9a-f]{6}$")


@dataclass(frozen=True)
class Dataset:
    """Arrays of a small dataset, with what gives them meaning.

    Attributes
    ----------
    names : mapping of str to tuple of str
        Feature names of ``"state"``, ``"forcing"`` and ``"static"``.
    arrays : mapping of str to ndarray
        ``xy`` (Nx, Ny, 2) grid coordinates in m; ``state`` (T, N, d),
        ``forcing`` (T, N, f), ``static`` (N, s) in physical units, N = Nx Ny
        nodes in x-major order. T is two dimensions if the series are
        forecasts: analysis times, which follow each other without a gap, and
        steps of a forecast. The state of an ensemble has its members before N.
        ``boundary_mask`` (N,) 1 where a node is
        boundary; ``<category>_mean`` and ``<category>_std`` per feature;
        ``state_diff_mean`` and ``state_diff_std`` of one-step differences of
        standardised states.
    step_hours : int or float
        Time between two states.
    start : str
        Time of the first state, ISO 8601.
    """

    names: Mapping[str, tuple[str, ...]]
    arrays: Mapping[str, npt.NDArray[np.floating]]
    step_hours: float = 3
    start: str = "2024-01-01T00:00"

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Grid nodes along x and y."""
        nx, ny = self.arrays["xy"].shape[:2]
        return int(nx), int(ny)

    @property
    def is_forecast(self) -> bool:
        """Whether the series are forecasts, not analyses."""
        return self.arrays["forcing"].ndim == 4

    @property
    def is_ensemble(self) -> bool:
        """Whether the state has several members."""
        return self.arrays["state"].ndim > self.arrays["forcing"].ndim


@dataclass(frozen=True)
class Call:
    """One call of a submodule.

    Attributes
    ----------
    module : str
        Name below the step predictor.
    kind : str
        Class of the module, by `kind_of`.
    inputs, outputs : tuple of int
        Rows of the trace; only tensors with floating entries have one.
    """

    module: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Trace:
    """What one forward pass did, module by module, in call order.

    Attributes
    ----------
    calls : list of Call
    shapes : list of tuple of int
        Of the tensor of each row.
    rows : Tensor
        (K, SAMPLES + MOMENTS) float64: entries at equal distances in the
        flattened tensor, mean, mean square, and the mean weighted with the
        position (which tells a permutation).
    columns : dict of int to Tensor
        (2, C) mean and mean square of each column, for rows that are no
        output of a submodule: inputs that were concatenated or read.
    """

    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rows: Tensor = field(
        default_factory=lambda: torch.empty(0, SAMPLES + MOMENTS).double()
    )
    columns: dict[int, Tensor] = field(default_factory=dict)


def kind_of(name: str) -> str:
    """Return the name of a class without its random part."""
    return _RANDOM_SUFFIX.sub("", name)


class Reference:
    """What a release computed, and everything needed to run it again."""

    def __init__(self, archive: ReleaseArchive, case: str) -> None:
        self.archive = archive
        self.case = case

    @property
    def release(self) -> Version:
        """Release that wrote it."""
        return self.archive.release

    @property
    def id(self) -> str:
        """Release and case, as in ``0.6.0-hi_lam``."""
        return f"{self.release}-{self.case}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Content of ``case.json``."""
        content: dict[str, Any] = json.loads(
            self.archive.read(self.case, "case.json")
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
        # safetensors returns them in another order in each process.
        tensors = load(self.archive.read(self.case, member))
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

        Returns
        -------
        init_states, target_states, forcing, target_times : Tensor
            (B, 2, N, d), (B, T, N, d) and (B, T, N, f * window) of the dtype;
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
        """Write checkpoint, configuration and graph; return the checkpoint."""
        for prefix in ("checkpoint.ckpt", "config.yaml", "graph/"):
            self.archive.extract(self.case, prefix, into)
        return into / "checkpoint.ckpt"

    def has(self, part: str) -> bool:
        """Whether a part was recorded: ``"loss"`` or ``"resume"``."""
        return part not in self.description.get("left_out", {})

    @property
    def sample_indices(self) -> list[int]:
        """Samples of the dataset that make up the batch."""
        indices = self.description.get("sample_indices")
        return list(indices or range(self.description["samples"]))

    @property
    def scaled_edge_features(self) -> dict[str, Tensor | list[Tensor]]:
        """Edge features that the release's model received, by file stem.

        Only references before 0.4.0 have them: their golden was computed from
        features that were divided by the longest edge in float32.
        """
        found: dict[str, Any] = {}
        # By level: there are fewer than ten.
        for name, tensor in sorted(self.group("graph_as_fed").items()):
            stem, _, level = name.partition(".")
            if level:
                found.setdefault(stem, []).append(tensor)
            else:
                found[stem] = tensor
        return found

    @property
    def graph_name(self) -> str:
        """Name of the graph directory in ``args``."""
        return str(self.description["graph"])

    def graph_folder(self, written: Path) -> Path:
        """Return the graph directory below a folder passed to `write`."""
        return written / "graph" / self.graph_name


def read_graph(folder: Path) -> dict[str, Any]:
    """Read the tensors of a graph directory, or lists of them, by file stem."""
    return {
        path.stem: torch.load(path, map_location="cpu", weights_only=True)
        for path in sorted(folder.glob("*.pt"))
    }


def write_graph(graph: dict[str, Any], graph_format: str, folder: Path) -> None:
    """Write a graph directory; its format is that of `graph_format`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, tensors in graph.items():
        path = folder / f"{stem}.pt"
        try:
            torch.save(tensors, path)
        except RuntimeError as error:  # of a full disk, among others
            raise OSError(EIO, "torch.save can't write it", path) from error
    if graph_format != "legacy":
        text = f"spec_version: {graph_format}\n"
        (folder / "metainfo.yaml").write_text(text, encoding="utf-8")
