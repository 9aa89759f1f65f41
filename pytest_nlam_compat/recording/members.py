"""The files of a recorded case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pytest_nlam_compat.adapters.resuming import resume
from pytest_nlam_compat.numerics.precision import default_dtype
from pytest_nlam_compat.numerics.sampling import sample
from pytest_nlam_compat.recording.cases import AR_STEPS
from pytest_nlam_compat.recording.runs import Runs
from pytest_nlam_compat.recording.strength import Strength
from pytest_nlam_compat.recording.workspace import Workspace
from pytest_nlam_compat.references.format import to_json
from pytest_nlam_compat.references.trace import Trace


@dataclass(frozen=True)
class Measured:
    """What a recorded model computes, and how well it shows.

    Attributes
    ----------
    golden32, golden64 : mapping of str to Tensor
        Outputs by name, in float32 and float64.
    noise32 : float
        Error of the former, of the spread of each variable.
    strength : Strength
    """

    golden32: Mapping[str, Tensor]
    golden64: Mapping[str, Tensor]
    noise32: float
    strength: Strength


def members_of(
    work: Workspace,
    saved: Mapping[str, Any],
    run: Runs,
    module64: nn.Module,
    measured: Measured,
) -> dict[str, bytes]:
    """Compute what is left to compute, and collect the files of a case.

    Parameters
    ----------
    work : Workspace
    saved : mapping of str to Any
        The checkpoint.
    run : Runs
    module64 : torch.nn.Module
        With its weights, in float64; trained further here.
    measured : Measured

    Returns
    -------
    dict of str to bytes
        By name in the archive, within the folder of the case.
    """
    trace = run.trace(module64)
    loss = run.loss(module64)
    with default_dtype(torch.float64), run.drawing("loss"):
        resumed_loss, after = resume(
            run.adapter,
            module64,
            saved["optimizer_states"][0],
            run.typed(torch.float64),
        )
    goldens = {
        f"{precision}/{name}": output
        for precision, outputs in (
            ("golden32", measured.golden32),
            ("golden64", measured.golden64),
        )
        for name, output in outputs.items()
    }
    tensors = _inputs(work, run) | _fingerprints(trace) | goldens
    tensors |= {
        "golden64/loss": torch.tensor([loss], dtype=torch.float64),
        "resume/loss": torch.tensor([resumed_loss], dtype=torch.float64),
        "resume/parameters": torch.cat([sample(p) for p in after.values()]),
    }
    description = _description(work, saved, measured) | {
        "resume": list(after),
        "trace": {
            "calls": [
                [call.module, call.kind, call.inputs, call.outputs]
                for call in trace.calls
            ],
            "shapes": trace.shapes,
        },
    }
    graph = work.folder / "f4" / "graph" / work.case.graph
    return {
        "checkpoint.ckpt": work.checkpoint.read_bytes(),
        "config.yaml": (work.folder / "config.yaml").read_bytes(),
        "state_dict.safetensors": save(_plain(saved["state_dict"])),
        "tensors.safetensors": save(_plain(tensors)),
        "case.json": to_json(description),
        **{
            f"graph/{work.case.graph}/{path.name}": path.read_bytes()
            for path in sorted(graph.iterdir())
        },
    }


def _inputs(work: Workspace, run: Runs) -> dict[str, Tensor]:
    """Dataset, batch, and the noise that was drawn."""
    init, target, forcing, times = run.batch
    tensors = {
        f"dataset/{name}": torch.from_numpy(array)
        for name, array in work.dataset.arrays.items()
    }
    tensors |= {
        "batch/init_states": init,
        "batch/target_states": target,
        "batch/forcing": forcing,
        "batch/target_times": times,
    }
    for name, drawn in run.noise.items():
        tensors |= {f"noise/{name}/{i}": t for i, t in enumerate(drawn)}
    return tensors


def _fingerprints(trace: Trace) -> dict[str, Tensor]:
    columns = {f"trace/columns/{row}": t for row, t in trace.columns.items()}
    return {"trace/rows": trace.rows, **columns}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors wants them."""
    return {
        name: tensor.detach().clone().contiguous()
        for name, tensor in tensors.items()
    }


def _description(
    work: Workspace, saved: Mapping[str, Any], measured: Measured
) -> dict[str, Any]:
    case, figures = work.case, measured.strength
    return {
        "case": case.name,
        "model": case.model,
        "predictor": asdict(case.predictor) if case.predictor else None,
        "graph": case.graph,
        "levels": case.levels,
        "hierarchical": case.hierarchical,
        "features": work.dataset.names,
        "step_hours": work.dataset.step_hours,
        "start": work.dataset.start,
        "samples": case.samples,
        "ar_steps": AR_STEPS,
        "optimizer_steps": saved["global_step"],
        "outputs": sorted(measured.golden64),
        "noise32": measured.noise32,
        "strength": {
            "required": figures.required,
            "parameters": _rounded(figures.parameters),
            "columns": _rounded(figures.columns),
        },
    }


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Three digits are enough of an effect."""
    return {name: float(f"{value:.2e}") for name, value in figures.items()}
