"""Record one case: build, train, save, run, and prove that it is strong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.batches import PARTS
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
    run = runs.BatchRuns(adapter, batch, generator if case.predictor else None)
    golden32 = run.outputs(module32, torch.float32)
    golden64 = run.outputs(module64, torch.float64)
    tensors, description = describe(work, saved, golden32, golden64)
    figures = strength.measure(
        module64,
        lambda: run.outputs(module64, torch.float64),
        description["noise32"],
        generator,
        suspects,
    )
    if figures.weak:
        return {}, {
            name: effect / figures.required
            for name, effect in figures.weak.items()
        }
    description |= {
        "levels": case.levels,
        "hierarchical": case.hierarchical,
        "strength": figures.plain(),
    }
    trace_and_resume(run, module64, saved, tensors, description)
    return {
        "checkpoint.ckpt": work.checkpoint.read_bytes(),
        "state_dict.safetensors": _safetensors(saved["state_dict"]),
        **members(work, run, tensors, description),
    }, {}


def describe(
    work: Workspace,
    saved: Mapping[str, Any],
    golden32: Mapping[str, Tensor],
    golden64: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return dataset and goldens as tensors, and the description of a case."""
    case, dataset = work.case, work.dataset
    tensors = {
        f"dataset/{name}": torch.from_numpy(array)
        for name, array in dataset.arrays.items()
    }
    tensors |= {f"golden32/{n}": t for n, t in golden32.items()}
    tensors |= {f"golden64/{n}": t for n, t in golden64.items()}
    return tensors, {
        "case": case.name,
        "model": case.model,
        "predictor": asdict(case.predictor) if case.predictor else None,
        "graph": case.graph,
        "features": dataset.names,
        "step_hours": dataset.step_hours,
        "start": dataset.start,
        "samples": case.samples,
        "ar_steps": AR_STEPS,
        "optimizer_steps": saved["global_step"],
        "outputs": sorted(golden64),
        # Largest error of float32, over the spread of its variable.
        "noise32": max(noise32(golden32[n], golden64[n]) for n in golden64),
    }


def trace_and_resume(
    run: runs.BatchRuns,
    module64: nn.Module,
    saved: Mapping[str, Any],
    tensors: dict[str, Tensor],
    description: dict[str, Any],
) -> None:
    """Add the trace, the loss, and one more step of training of module64.

    Without what the description has as ``left_out``.
    """
    left_out = description.get("left_out", ())
    trace = run.trace(module64)
    tensors["trace/rows"] = trace.rows
    tensors |= {f"trace/columns/{n}": t for n, t in trace.columns.items()}
    description["trace"] = {
        "calls": [
            [call.module, call.kind, call.inputs, call.outputs]
            for call in trace.calls
        ],
        "shapes": trace.shapes,
    }
    if "loss" not in left_out:
        loss = run.loss(module64)
        tensors["golden64/loss"] = torch.tensor([loss], dtype=torch.float64)
    if "resume" in left_out:
        return
    with default_dtype(torch.float64), run.same_noise("loss"):
        loss, after = optimizer_step(
            run.adapter,
            module64,
            saved["optimizer_states"][0],
            run.typed(torch.float64),
        )
    description["resume"] = list(after)
    tensors["resume/loss"] = torch.tensor([loss], dtype=torch.float64)
    tensors["resume/parameters"] = torch.cat(
        [sample(p) for p in after.values()]
    )


def members(
    work: Workspace,
    run: runs.BatchRuns,
    tensors: Mapping[str, Tensor],
    description: Mapping[str, Any],
) -> dict[str, bytes]:
    """Return the members of a case by name, but its checkpoint and weights.

    With the batch, and the noise that was drawn.
    """
    batch = {f"batch/{n}": t for n, t in zip(PARTS, run.batch, strict=True)}
    noise = {
        f"noise/{name}/{number}": tensor
        for name, drawn in run.noise.items()
        for number, tensor in enumerate(drawn)
    }
    return {
        "config.yaml": (work.folder / "config.yaml").read_bytes(),
        "tensors.safetensors": _safetensors({**tensors, **batch, **noise}),
        "case.json": to_json(description),
        **{
            f"graph/{work.case.graph}/{path.name}": path.read_bytes()
            for path in sorted(work.graph.iterdir())
        },
    }


def _safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Save copies of tensors: safetensors takes none that share memory."""
    return save(
        {n: t.detach().clone().contiguous() for n, t in tensors.items()}
    )
