"""The first autoregressive step of a model, with all that went through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.trace import record
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.torch_settings import (
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.references.reference import Trace
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass
class Tensors:
    """What went into and out of one call.

    Attributes
    ----------
    inputs, outputs : list of Tensor
        Floating ones, in order.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass
class Observation:
    """One autoregressive step.

    Attributes
    ----------
    trace : Trace
    tensors : list of Tensors
        For each call of the trace.
    outputs : dict of str to Tensor
        By name, as in the golden, of this one step.
    """

    trace: Trace
    tensors: list[Tensors]
    outputs: dict[str, Tensor]


def observe(
    subject: ReferenceUnderTest,
    module: nn.Module,
    dtype: torch.dtype = torch.float64,
) -> Observation:
    """Run the first step as its recording did, and keep everything.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
    dtype : torch.dtype
        Of the module; float64 as in the recording.

    Returns
    -------
    Observation
    """
    init, target, forcing, _ = (
        tensor.to(subject.device) for tensor in subject.reference.batch(dtype)
    )
    drawn = subject.reference.noise("rollout")
    first = drawn[: len(drawn) // subject.reference.description["ar_steps"]]
    predictor = subject.adapter.step_predictor(module)
    tensors: list[Tensors] = []
    outputs: dict[str, Tensor] = {}

    def step() -> None:
        outputs.update(
            subject.adapter.outputs(module, init, forcing[:, :1], target[:, :1])
        )

    with ExitStack() as stack:
        stack.enter_context(
            code_under_test("Tracing the first step of the current code")
        )
        stack.enter_context(reproducible())
        stack.enter_context(default_dtype(dtype))
        stack.enter_context(ReplayNoise(first))
        for name, watched in predictor.named_modules():
            if name:
                _keep(watched, tensors, stack)
        trace = record(predictor, step)
    return Observation(trace, tensors, outputs)


def _keep(module: nn.Module, tensors: list[Tensors], hooks: ExitStack) -> None:
    pending: list[Tensors] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        # Copies: a module may change its inputs.
        inputs = [t.detach().clone() for t in floating([args, kwargs])]
        pending.append(Tensors(inputs))

    def after(_: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        call = pending.pop()
        call.outputs = [t.detach().clone() for t in floating(out)]
        tensors.append(call)

    hooks.callback(
        module.register_forward_pre_hook(before, with_kwargs=True).remove
    )
    hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)


def floating(value: Any) -> Iterator[Tensor]:
    """Floating tensors in nested containers, in the order of a trace."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from floating(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from floating(item)
