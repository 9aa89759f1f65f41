"""Bring the recorded data of v0.1.0, v0.2.0 and v0.3.0 into fixtures/.

neural-lam before 0.4.0 is not on a package index and does not install beside
later releases, so its references were recorded apart, by the code of each
tag, in a format of their own (``nlam-ref/1``: one folder for each case with
``checkpoint.ckpt``, ``graph/``, ``reference.safetensors``, ``reference.json``).
This script carries that data over, once:

    python tools/import_early_releases.py RECORDED fixtures

Checkpoints and graph files are taken as they are. What is indexed by grid
node is put into today's order (x-major; v0.1.0 and v0.2.0 had y-major), the
forcing of the batch into today's windows, rebuilt from the recorded series;
what the release was fed is kept beside it. Nothing is computed anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.numerics.comparison import spread
from pytest_nlam_compat.numerics.tolerances import noise32
from pytest_nlam_compat.recording.strength import required
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.format import to_json, write_archive
from pytest_nlam_compat.references.reference import read_graph

RELEASES = ("0.1.0", "0.2.0", "0.3.0")
# Order of features in the datastores of today's neural-lam.
FORCING = (
    "toa_downwelling_shortwave_flux",
    "open_water_fraction",
    "sin_hour",
    "cos_hour",
    "sin_year",
    "cos_year",
)
STATIC = ("surface_geopotential", "border_mask", "x", "y")
STEP_HOURS = 3


def main(recorded: Path, fixtures: Path) -> None:
    """Write one archive for each release."""
    for release in RELEASES:
        folders = sorted((recorded / f"v{release}").iterdir())
        cases = {folder.name: _case(folder) for folder in folders}
        first = json.loads((folders[0] / "reference.json").read_text())
        index = {
            "release": release,
            "void": {},
            "provenance": {
                "command": "python tools/import_early_releases.py",
                "commit": first["commit"],
                "date": first["date_utc"],
                "versions": first["versions"],
            },
        }
        archive = fixtures / f"{release}.zip"
        write_archive(archive, index, cases)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        registry.add(fixtures / "registry.txt", archive.name, digest)
        print(f"{archive}: {archive.stat().st_size / 1000:,.0f} kB")


def _case(folder: Path) -> dict[str, bytes]:
    about = json.loads((folder / "reference.json").read_text())
    old = load_file(folder / "reference.safetensors")
    (graph,) = (folder / "graph").iterdir()
    with read_checkpoint(folder / "checkpoint.ckpt") as checkpoint:
        state_dict = checkpoint.load_state_dict()
    tensors = _tensors(about, old) | _graph_as_fed(graph)
    members = {
        "checkpoint.ckpt": (folder / "checkpoint.ckpt").read_bytes(),
        "config.yaml": _config(about, old).encode(),
        "state_dict.safetensors": save(state_dict),
        "tensors.safetensors": save(
            {name: t.clone().contiguous() for name, t in tensors.items()}
        ),
        "case.json": to_json(_description(about, tensors, graph.name)),
    }
    for path in sorted(graph.iterdir()):
        members[f"graph/{graph.name}/{path.name}"] = path.read_bytes()
    return members


def _order(about: dict[str, Any]) -> Tensor:
    """Return the old index of each node in today's order."""
    ny, nx = about["grid"]["NY"], about["grid"]["NX"]
    nodes = torch.arange(nx * ny)
    if about["grid"]["node_order"].startswith("y-major"):
        return nodes.reshape(ny, nx).T.reshape(-1)
    return nodes


def _tensors(about: dict[str, Any], old: dict[str, Tensor]) -> dict[str, Any]:
    order = _order(about)
    init = old["inputs/init_states"][:, :, order]
    target = old["inputs/target_states"][:, :, order]
    forcing = _windows(about, old)[:, :, order]
    tensors = {
        "batch/init_states": init,
        "batch/target_states": target,
        "batch/forcing": forcing,
        "release/forcing_as_fed": old["inputs/forcing_as_fed"],
        "golden64/loss": old["golden64/resume_loss"].reshape(1),
        "resume/loss": old["golden64/resume_loss"].reshape(1),
        "resume/update": old["golden64/resume_param_update"],
        "trace/rows": torch.empty(0, 8, dtype=torch.float64),
    }
    for precision in ("golden32", "golden64"):
        golden = old[f"{precision}/prediction"]
        tensors[f"{precision}/prediction"] = golden[:, :, order]
    for name, value in old.items():
        if name.startswith("trace/"):
            tensors[f"release_{name}"] = value
    dataset = _dataset(about, old, order)
    tensors |= {f"dataset/{name}": value for name, value in dataset.items()}
    tensors["batch/target_times"] = _times(old)
    return tensors


def _series(old: dict[str, Tensor], name: str, nodes: int) -> Tensor:
    """Return a forcing series, (B, L, N); index 0 is one step before X_t."""
    series = old[f"inputs/series.{name}"]
    length = old["inputs/series.sin_hour"].shape[1]
    if name == "open_water_fraction":  # (B, N), constant in time
        return series[:, None].expand(-1, length, -1)
    if series.dim() == 2:  # equal on all nodes
        return series[..., None].expand(-1, -1, nodes)
    return series


def _windows(about: dict[str, Any], old: dict[str, Tensor]) -> Tensor:
    """Stack the series as today's dataset does: feature by feature."""
    steps, nodes = old["inputs/target_states"].shape[1:3]
    columns = []
    for name in FORCING:
        series = _series(old, name, nodes)
        for offset in about["features"]["window_offsets_from_current_state"]:
            columns.append(series[:, 1 + offset : 1 + offset + steps])
    return torch.stack(columns, dim=-1)


def _dataset(
    about: dict[str, Any], old: dict[str, Tensor], order: Tensor
) -> dict[str, Tensor]:
    """Lay the samples out as one series, one after the other."""
    nx, ny = about["grid"]["NX"], about["grid"]["NY"]
    mean, std = old["datastore/state_mean"], old["datastore/state_std"]
    states = torch.cat(
        [old["inputs/init_states"], old["inputs/target_states"]], dim=1
    )
    length = old["inputs/series.sin_hour"].shape[1]
    # The last state of a sample only fills up to the length of its forcing.
    filling = states[:, -1:].expand(-1, length - states.shape[1], -1, -1)
    states = torch.cat([states, filling], dim=1).flatten(0, 1)[:, order]
    forcing = torch.stack(
        [_series(old, name, nx * ny) for name in FORCING], dim=-1
    ).flatten(0, 1)[:, order]
    # Two more times: a dataset up to 0.5 is one sample shorter.
    forcing = torch.cat([forcing, forcing[-2:]])
    states = torch.cat([states, states[-2:]])
    flux_mean, flux_std = old["datastore/flux_stats"]
    forcing_mean = torch.tensor([float(flux_mean), 0, 0, 0, 0, 0])
    forcing_std = torch.tensor([float(flux_std), 1, 1, 1, 1, 1])
    static = [old[f"datastore/static_raw.{name}"] for name in STATIC]
    return {
        "xy": old["datastore/xy"][order].reshape(nx, ny, 2).double(),
        "boundary_mask": old["datastore/boundary_mask"].reshape(-1)[order],
        "state": mean + std * states,
        "state_mean": mean,
        "state_std": std,
        "state_diff_mean": old["datastore/diff_mean"],
        "state_diff_std": old["datastore/diff_std"],
        "forcing": forcing_mean + forcing_std * forcing,
        "forcing_mean": forcing_mean,
        "forcing_std": forcing_std,
        "static": torch.stack([s.reshape(-1) for s in static], dim=-1)[order],
        "static_mean": old["datastore/static_mean64"],
        "static_std": old["datastore/static_std64"],
    }


def _times(old: dict[str, Tensor]) -> Tensor:
    """Return the times of the targets, (B, T), in nanoseconds since 1970."""
    samples, length = old["inputs/series.sin_hour"].shape
    steps = old["inputs/target_states"].shape[1]
    first = length * torch.arange(samples)[:, None] + 2
    index = first + torch.arange(steps)
    start = 1704067200  # 2024-01-01T00:00
    return (start + index * STEP_HOURS * 3600) * 1_000_000_000


def _graph_as_fed(folder: Path) -> dict[str, Tensor]:
    """Edge features as the model saw them, divided by the longest edge.

    The float64 golden was made from features that had been divided in
    float32; dividing them in float64 again differs by up to 6e-9.
    """
    graph = read_graph(folder)
    longest = max(level[:, 0].max() for level in graph["m2m_features"])
    fed = {}
    for stem, value in graph.items():
        if not stem.endswith("_features") or stem == "mesh_features":
            continue
        if isinstance(value, list):
            for level, tensor in enumerate(value):
                fed[f"graph_as_fed/{stem}.{level}"] = tensor / longest
        else:
            fed[f"graph_as_fed/{stem}"] = value / longest
    return fed


def _config(about: dict[str, Any], old: dict[str, Tensor]) -> str:
    """Return the configuration that says the same to today's code."""
    weights = old["datastore/state_feature_weights"].tolist()
    names = about["features"]["state"]
    lines = [
        "datastore:",
        "  kind: npyfilesmeps",
        "  config_path: stored.yaml",
        "training:",
        "  state_feature_weighting:",
        "    __config_class__: ManualStateFeatureWeighting",
        "    weights:",
        *(
            f"      {name}: {weight!r}"
            for name, weight in zip(names, weights, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def _description(
    about: dict[str, Any], tensors: dict[str, Tensor], graph: str
) -> dict[str, Any]:
    golden = tensors["golden64/prediction"]
    noise = noise32(tensors["golden32/prediction"], golden)
    # Recorded as absolute changes; over the largest spread is a lower bound.
    scale = float(spread(golden).max())
    sensitivity = about["sensitivity"]
    samples, length = about["rollout"]["B"], golden.shape[1] + 3  # as _times
    return {
        "case": about["arch"],
        "model": about["arch"],
        "predictor": None,
        "graph": graph,
        "hierarchical": about["arch"].startswith("hi_lam"),
        "features": {
            "state": about["features"]["state"],
            "forcing": list(FORCING),
            "static": list(STATIC),
        },
        "step_hours": STEP_HOURS,
        "start": "2024-01-01T00:00",
        "samples": samples,
        "sample_indices": [sample * length for sample in range(samples)],
        "ar_steps": golden.shape[1],
        "optimizer_steps": about["checkpoint"]["global_step"],
        "outputs": ["prediction"],
        "noise32": noise,
        "strength": {
            "required": required(noise),
            "parameters": {
                name: float(f"{value / scale:.2e}")
                for name, value in sensitivity["tensors"].items()
            },
            "columns": {
                name: float(f"{value / scale:.2e}")
                for name, value in sensitivity["columns"].items()
            },
        },
        "resume": about["resume"]["param_order"],
        "trace": {"calls": [], "shapes": []},
        "release_trace": about["trace"],
        # Up to v0.2.0 the weights of the loss stayed float32 in a double()d
        # model: nothing but its loss is concerned.
        "loss_weights": "float32"
        if "config" not in about["checkpoint"]["hyper_parameters_keys"]
        else "float64",
        "recorded": {
            key: about[key] for key in ("format", "commit", "grid", "graph")
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
