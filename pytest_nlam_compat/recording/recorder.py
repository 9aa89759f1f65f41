"""Recording one case: build, train, save, run, and prove that it is strong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pytest_nlam_compat.adapters.base import Adapter, Batch
from pytest_nlam_compat.adapters.datastore import StoredDatastore
from pytest_nlam_compat.adapters.hyper_parameters import forcing_window
from pytest_nlam_compat.adapters.resuming import resume
from pytest_nlam_compat.diagnosis.trace import record as record_trace
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.noise import RecordNoise, ReplayNoise
from pytest_nlam_compat.numerics.precision import building, default_dtype
from pytest_nlam_compat.numerics.sampling import sample
from pytest_nlam_compat.numerics.tolerances import noise32
from pytest_nlam_compat.recording import strength, synthesis, training
from pytest_nlam_compat.recording.cases import CLAMPING, WEIGHTS, Case
from pytest_nlam_compat.references.dataset import Dataset
from pytest_nlam_compat.references.format import to_json
from pytest_nlam_compat.references.reference import (
    graph_format,
    read_graph,
    write_graph,
)

AR_STEPS = 3
_DRAWS = 100
_COMMON = {
    "--hidden_dim": "4",
    "--hidden_layers": "1",
    "--processor_layers": "2",
}


@dataclass
class _Workspace:
    """What is needed to build the case in one precision."""

    case: Case
    adapter: Adapter
    dataset: Dataset
    hyper_parameters: dict[str, Any]
    folder: Path

    def datastore(self, dtype: torch.dtype) -> StoredDatastore:
        name = "f4" if dtype is torch.float32 else "f8"
        return StoredDatastore(self.dataset, self.folder / name, name)

    def build(self, dtype: torch.dtype) -> nn.Module:
        with building(dtype):
            module = self.adapter.build(
                self.hyper_parameters,
                self.datastore(dtype),
                self.case.predictor,
            )
        return module.to(dtype)


def record(case: Case, adapter: Adapter, folder: Path) -> dict[str, bytes]:
    """Record a case with the installed release.

    Parameters
    ----------
    case : Case
    adapter : Adapter
    folder : pathlib.Path
        Empty folder to work in.

    Returns
    -------
    dict of str to bytes
        Members of the case in the archive.

    Raises
    ------
    CompatError
        If the case stays too weak, with what can't be seen.
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
        f"The case {case.name} is too weak to be a reference: 10 % more or "
        "less of a weight hardly moves its outputs.",
        facts={
            name: f"{share:.1e} of the needed" for name, share in weak.items()
        },
        remedy="Make the model smaller or its inputs larger in "
        "recording/cases.py; a reference that can't fail is none.",
    )


def _record(
    case: Case,
    adapter: Adapter,
    folder: Path,
    seed: int,
    suspects: Iterable[str],
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Draw, train and measure once; what is weak, as a share of the needed."""
    work = _prepare(case, adapter, folder, seed)
    generator = torch.Generator().manual_seed(seed)
    checkpoint = folder / "checkpoint.ckpt"
    module = work.build(torch.float32)
    training.strengthen(module, generator)
    args = forcing_window(work.hyper_parameters, case.predictor)
    with _noise(case, generator):
        training.train(
            adapter,
            module,
            work.datastore(torch.float32),
            args,
            case.samples,
            AR_STEPS,
            checkpoint,
        )
    # Our own file of a moment ago.
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    module32 = _loaded(work, saved, torch.float32)
    module64 = _loaded(work, saved, torch.float64)
    batch = adapter.batch(
        module32,
        work.datastore(torch.float32),
        args,
        range(case.samples),
        AR_STEPS,
    )
    run = _Runs(case, adapter, batch, generator)
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
    members = _members(work, saved, run, module64, golden32, golden64)
    members["case.json"] = to_json(
        _description(work, run, saved, noise, figures, golden64)
        | members.pop("description")
    )
    return members, {}


def _prepare(
    case: Case, adapter: Adapter, folder: Path, seed: int
) -> _Workspace:
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
    args.config_path = "config.yaml"  # no path of this machine in a file
    (folder / "config.yaml").write_text(_config(case), encoding="utf-8")
    config = adapter.config(folder / "config.yaml")
    past, future = args.num_past_forcing_steps, args.num_future_forcing_steps
    # One more than needed: up to 0.5 a dataset is one sample shorter.
    length = max(2, past) + AR_STEPS + future + case.samples
    dataset = synthesis.dataset(case, length, seed)
    work = _Workspace(
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
    graph32 = folder / "f4" / "graph" / case.graph
    adapter.create_graph(
        work.datastore(torch.float32),
        graph32,
        levels=case.levels,
        hierarchical=case.hierarchical,
    )
    _widen_graph(graph32, folder / "f8" / "graph" / case.graph)
    return work


def _widen_graph(source: Path, target: Path) -> None:
    """Copy a graph directory with its features as float64."""

    def widen(value: Any) -> Any:
        if isinstance(value, list):
            return [widen(item) for item in value]
        return value.double() if value.is_floating_point() else value

    graph = {stem: widen(value) for stem, value in read_graph(source).items()}
    write_graph(graph, graph_format(source), target)


def _config(case: Case) -> str:
    """Return the YAML configuration that a user would write."""
    lines = ["datastore:", "  kind: mdp", "  config_path: stored.yaml"]
    if case.clamping or case.weighting:
        lines.append("training:")
    if case.weighting:
        lines += [
            "  state_feature_weighting:",
            "    __config_class__: ManualStateFeatureWeighting",
            "    weights:",
            *(f"      {name}: {value}" for name, value in WEIGHTS.items()),
        ]
    if case.clamping:
        lines.append("  output_clamping:")
        for side, limits in CLAMPING.items():
            lines.append(f"    {side}:")
            lines += [f"      {name}: {v}" for name, v in limits.items()]
    return "\n".join(lines) + "\n"


def _loaded(
    work: _Workspace, saved: Mapping[str, Any], dtype: torch.dtype
) -> nn.Module:
    """Build anew and load, so that nothing comes from training's memory."""
    module = work.build(dtype)
    state_dict = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in saved["state_dict"].items()
    }
    work.adapter.load_strictly(
        module,
        {"state_dict": state_dict, "optimizer_states": []},
    )
    return module


@contextlib.contextmanager
def _noise(case: Case, generator: torch.Generator) -> Iterator[None]:
    """Noise for models that draw some; nothing for those that must not."""
    with RecordNoise(generator) if case.predictor else ReplayNoise([]):
        yield


class _Runs:
    """Everything that is computed from the batch, with the same noise."""

    def __init__(
        self,
        case: Case,
        adapter: Adapter,
        batch: Batch,
        generator: torch.Generator,
    ) -> None:
        self.adapter = adapter
        self.batch = batch
        self.stochastic = case.predictor is not None
        self.generator = generator
        self.noise: dict[str, list[Tensor]] = {}

    def typed(self, dtype: torch.dtype) -> Batch:
        """Return the batch in a precision."""
        init, target, forcing, times = self.batch
        return init.to(dtype), target.to(dtype), forcing.to(dtype), times

    def drawing(self, name: str) -> Any:
        """Record noise at the first run of a name, replay it afterwards."""
        if not self.stochastic or name in self.noise:
            return ReplayNoise(self.noise.get(name, []))
        recorder = RecordNoise(self.generator)
        self.noise[name] = recorder.drawn
        return recorder

    def outputs(
        self, module: nn.Module, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Roll out."""
        init, target, forcing, _ = self.typed(dtype)
        with default_dtype(dtype), self.drawing("rollout"):
            return self.adapter.outputs(module, init, forcing, target)

    def trace(self, module: nn.Module) -> Any:
        """Trace of the first autoregressive step in float64."""
        init, target, forcing, _ = self.typed(torch.float64)
        steps = len(self.noise.get("rollout", [])) // AR_STEPS
        drawn = self.noise.get("rollout", [])[:steps]

        def step() -> None:
            self.adapter.outputs(module, init, forcing[:, :1], target[:, :1])

        with default_dtype(torch.float64), ReplayNoise(drawn):
            return record_trace(self.adapter.step_predictor(module), step)

    def loss(self, module: nn.Module) -> float:
        """Training loss in float64."""
        with default_dtype(torch.float64), self.drawing("loss"):
            batch = self.typed(torch.float64)
            return float(self.adapter.training_loss(module, batch))


def _members(
    work: _Workspace,
    saved: Mapping[str, Any],
    run: _Runs,
    module64: nn.Module,
    golden32: Mapping[str, Tensor],
    golden64: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Compute the rest and collect the files of the case."""
    trace = run.trace(module64)
    loss = run.loss(module64)
    with default_dtype(torch.float64), run.drawing("loss"):
        resumed_loss, after = resume(
            run.adapter,
            module64,
            saved["optimizer_states"][0],
            run.typed(torch.float64),
        )
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
        "trace/rows": trace.rows,
        "resume/parameters": torch.cat([sample(p) for p in after.values()]),
        "golden64/loss": torch.tensor([loss], dtype=torch.float64),
        "resume/loss": torch.tensor([resumed_loss], dtype=torch.float64),
    }
    tensors |= {f"golden32/{name}": t for name, t in golden32.items()}
    tensors |= {f"golden64/{name}": t for name, t in golden64.items()}
    tensors |= {f"trace/columns/{row}": t for row, t in trace.columns.items()}
    for name, drawn in run.noise.items():
        tensors |= {f"noise/{name}/{i}": t for i, t in enumerate(drawn)}
    members: dict[str, Any] = {
        "checkpoint.ckpt": (work.folder / "checkpoint.ckpt").read_bytes(),
        "config.yaml": (work.folder / "config.yaml").read_bytes(),
        "state_dict.safetensors": save(_plain(saved["state_dict"])),
        "tensors.safetensors": save(_plain(tensors)),
        "description": {
            "resume": list(after),
            "trace": {
                "calls": [
                    [call.module, call.kind, call.inputs, call.outputs]
                    for call in trace.calls
                ],
                "shapes": trace.shapes,
            },
        },
    }
    graph = work.folder / "f4" / "graph" / work.case.graph
    for path in sorted(graph.iterdir()):
        name = f"graph/{work.case.graph}/{path.name}"
        members[name] = path.read_bytes()
    return members


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors wants them."""
    return {
        name: tensor.detach().clone().contiguous()
        for name, tensor in tensors.items()
    }


def _description(
    work: _Workspace,
    run: _Runs,
    saved: Mapping[str, Any],
    noise: float,
    figures: strength.Strength,
    golden64: Mapping[str, Tensor],
) -> dict[str, Any]:
    case = work.case
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
        "outputs": sorted(golden64),
        "noise32": noise,
        "strength": {
            "required": figures.required,
            "parameters": _rounded(figures.parameters),
            "columns": _rounded(figures.columns),
        },
    }


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Three digits are enough of an effect."""
    return {name: float(f"{value:.2e}") for name, value in figures.items()}
