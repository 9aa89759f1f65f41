"""Everything that is computed from the batch of a case."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.adapters.base import Adapter
from pytest_nlam_compat.adapters.preparing import Batch
from pytest_nlam_compat.numerics.noise import RecordNoise, ReplayNoise
from pytest_nlam_compat.numerics.precision import default_dtype
from pytest_nlam_compat.recording.cases import AR_STEPS, Case
from pytest_nlam_compat.under_test.tracing import record_trace


@contextlib.contextmanager
def training_noise(case: Case, generator: torch.Generator) -> Iterator[None]:
    """Noise for models that draw some; nothing for those that must not."""
    with RecordNoise(generator) if case.predictor else ReplayNoise([]):
        yield


class Runs:
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
