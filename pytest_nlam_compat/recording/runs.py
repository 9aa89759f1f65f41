"""Train the model of a case, and compute what is recorded of it."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.batches import Batch
from pytest_nlam_compat.adapters.training_step import train_and_save
from pytest_nlam_compat.numerics.noise import RecordNoise, ReplayNoise
from pytest_nlam_compat.numerics.torch_settings import default_dtype
from pytest_nlam_compat.recording.cases import AR_STEPS, Case
from pytest_nlam_compat.recording.workspace import Workspace
from pytest_nlam_compat.under_test.tracing import record_trace

OPTIMIZER_STEPS = 2
# Gaussian weights this much larger than the initialiser's show everywhere;
# near-initial ones hide behind rounding.
_WEIGHT_GAIN = 2.2
_BIAS_STD = 0.3


def strengthen(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew, large enough to show in the outputs."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            random = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                size = parameter.square().mean().sqrt()
                parameter.copy_(_WEIGHT_GAIN * size * random)
            elif name.endswith("weight"):  # of a LayerNorm
                parameter.copy_(1.0 + random.abs().clamp(max=1.0))
            else:
                parameter.copy_(_BIAS_STD * random)


def train(work: Workspace, module: nn.Module, args: Namespace) -> None:
    """Train in place for two optimizer steps, and save as the release saves.

    Each epoch is one batch of the first samples.
    """
    samples, checkpoint = work.case.samples, work.checkpoint
    datastore = work.datastore(torch.float32)
    data = work.adapter.data_module(datastore, args, AR_STEPS)
    dataset = data.train_dataloader().dataset
    first = torch.utils.data.Subset(dataset, range(samples))
    loader = torch.utils.data.DataLoader(first, batch_size=samples)
    train_and_save(module, loader, OPTIMIZER_STEPS, checkpoint)


def training_noise(
    case: Case, generator: torch.Generator
) -> RecordNoise | ReplayNoise:
    """Draw noise for models that sample; fail if another model draws some."""
    return RecordNoise(generator) if case.predictor else ReplayNoise([])


class BatchRuns:
    """Computations on the recorded batch, all with the same noise.

    `generator` draws the noise of a model that samples; None of others.
    """

    def __init__(
        self,
        adapter: Adapter,
        batch: Batch,
        generator: torch.Generator | None = None,
    ) -> None:
        self.adapter = adapter
        self.batch = batch
        self._generator = generator
        self.noise: dict[str, list[Tensor]] = {}

    def typed(self, dtype: torch.dtype) -> Batch:
        """Return the batch with floating tensors of a type."""
        init, target, forcing, times = self.batch
        return init.to(dtype), target.to(dtype), forcing.to(dtype), times

    def same_noise(self, name: str) -> Any:
        """Record the noise of the first run of a name, replay it afterwards."""
        if self._generator is None or name in self.noise:
            return ReplayNoise(self.noise.get(name, []))
        recorder = RecordNoise(self._generator)
        self.noise[name] = recorder.drawn
        return recorder

    def outputs(
        self, module: nn.Module, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Roll out, with the noise of the first rollout."""
        init, target, forcing, _ = self.typed(dtype)
        with default_dtype(dtype), self.same_noise("rollout"):
            return self.adapter.outputs(module, init, forcing, target)

    def trace(self, module: nn.Module) -> Any:
        """Trace the first autoregressive step in float64."""
        init, target, forcing, _ = self.typed(torch.float64)
        steps = len(self.noise.get("rollout", [])) // AR_STEPS
        drawn = self.noise.get("rollout", [])[:steps]

        def step() -> None:
            self.adapter.outputs(module, init, forcing[:, :1], target[:, :1])

        with default_dtype(torch.float64), ReplayNoise(drawn):
            return record_trace(self.adapter.step_predictor(module), step)

    def loss(self, module: nn.Module) -> float:
        """Return the training loss in float64."""
        with default_dtype(torch.float64), self.same_noise("loss"):
            batch = self.typed(torch.float64)
            return float(self.adapter.training_loss(module, batch))
