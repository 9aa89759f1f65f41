"""Record one case: build, train, save, run, and prove that it is strong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.model_arguments import forcing_window
from pytest_nlam_compat.adapters.training_step import optimizer_step
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.comparison import sample
from pytest_nlam_compat.numerics.tolerances import noise32
from pytest_nlam_compat.numerics.torch_settings import default_dtype
from pytest_nlam_compat.recording import runs, strength
from pytest_nlam_compat.recording.cases import AR_STEPS, Case
from pytest_nlam_compat.recording.workspace import Workspace, prepare
from pytest_nlam_compat.references.release_archive import to_json

_DRAWS = 100


@dataclass(frozen=True)
class _Goldens:
    """Outputs of the recorded model by name, and how well changes show."""

    float32: Mapping[str, Tensor]
    float64: Mapping[str, Tensor]
    noise32: float  # largest error of float32, over the spread of its variable
    strength: strength.Strength


def record(case: Case, adapter: Adapter, folder: Path) -> dict[str, bytes]:
    """Record a case with the installed release, working in an empty folder.

    Returns the members of the case in the archive, by name.

    Raises
    ------
    CompatError
        If each draw is too weak: changes of a weight don't show.
    """
    suspects: dict[str, None] = {}
    for seed in range(_DRAWS):
        workplace = folder / str(seed)
        workplace.mkdir()
        members, weak = _record(case, adapter, workplace, seed, suspects)
        if not weak:
            return members
        suspects |= dict.fromkeys(name.partition("[")[0] for name in weak)
    raise CompatError(
        f"The case {case.name} is too weak to be a reference: a change of 10 %"
        " in a weight hardly changes its outputs.",
        facts={
            name: f"{share:.1e} of the required effect"
            for name, share in weak.items()
        },
        remedy="Make the model smaller or its inputs larger in "
        "recording/cases.py: a reference that can't fail proves nothing.",
    )


def _record(
    case: Case,
    adapter: Adapter,
    folder: Path,
    seed: int,
    suspects: Iterable[str],
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Draw, train and measure once.

    Returns the members, and what is too weak as a share of what is required.
    """
    work = prepare(case, adapter, folder, seed)
    generator = torch.Generator().manual_seed(seed)
    module = work.build(torch.float32)
    runs.strengthen(module, generator)
    args = forcing_window(work.hyper_parameters, case.predictor)
    with runs.training_noise(case, generator):
        runs.train(work, module, args)
    # Our own file, written a moment ago.
    saved = torch.load(work.checkpoint, map_location="cpu", weights_only=False)
    module32 = work.load(saved, torch.float32)
    module64 = work.load(saved, torch.float64)
    batch = adapter.batch(
        module32,
        work.datastore(torch.float32),
        args,
        range(case.samples),
        AR_STEPS,
    )
    run = runs.BatchRuns(case, adapter, batch, generator)
    golden32 = run.outputs(module32, torch.float32)
    golden64 = run.outputs(module64, torch.float64)
    noise = max(noise32(golden32[n], golden64[n]) for n in golden64)
    figures = strength.measure(
        module64,
        lambda: run.outputs(module64, torch.float64),
        noise,
        generator,
        suspects,
    )
    if figures.weak:
        return {}, {
            name: effect / figures.required
            for name, effect in figures.weak.items()
        }
    goldens = _Goldens(golden32, golden64, noise, figures)
    return _members(work, saved, run, module64, goldens), {}


def _members(
    work: Workspace,
    saved: Mapping[str, Any],
    run: runs.BatchRuns,
    module64: nn.Module,
    goldens: _Goldens,
) -> dict[str, bytes]:
    """Trace, resume training of module64, and collect the files of a case."""
    trace = run.trace(module64)
    loss = run.loss(module64)
    with default_dtype(torch.float64), run.same_noise("loss"):
        resumed_loss, after = optimizer_step(
            run.adapter,
            module64,
            saved["optimizer_states"][0],
            run.typed(torch.float64),
        )
    tensors = _inputs(work, run) | {"trace/rows": trace.rows}
    tensors |= {f"trace/columns/{n}": t for n, t in trace.columns.items()}
    tensors |= {f"golden32/{n}": t for n, t in goldens.float32.items()}
    tensors |= {f"golden64/{n}": t for n, t in goldens.float64.items()}
    tensors |= {
        "golden64/loss": torch.tensor([loss], dtype=torch.float64),
        "resume/loss": torch.tensor([resumed_loss], dtype=torch.float64),
        "resume/parameters": torch.cat([sample(p) for p in after.values()]),
    }
    description = _description(work, saved, goldens) | {
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


def _inputs(work: Workspace, run: runs.BatchRuns) -> dict[str, Tensor]:
    """Collect dataset, batch, and the noise that was drawn."""
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


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors so that none share memory, as safetensors requires."""
    return {
        name: tensor.detach().clone().contiguous()
        for name, tensor in tensors.items()
    }


def _description(
    work: Workspace, saved: Mapping[str, Any], goldens: _Goldens
) -> dict[str, Any]:
    case, figures = work.case, goldens.strength
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
        "outputs": sorted(goldens.float64),
        "noise32": goldens.noise32,
        "strength": {
            "required": figures.required,
            "parameters": _rounded(figures.parameters),
            "columns": _rounded(figures.columns),
        },
    }


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.2e}") for name, value in figures.items()}
