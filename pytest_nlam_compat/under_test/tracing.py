"""Record the trace of a running model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.references.reference import (
    SAMPLES,
    Call,
    Trace,
    kind_of,
)
from pytest_nlam_compat.under_test.source_lines import running_line


@dataclass
class CallTensors:
    """Copies of the floating tensors that one call received and returned.

    `line` is the innermost line of the package under test that makes the call.
    """

    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    line: str = ""


def record_trace(
    predictor: nn.Module,
    run: Callable[[], object],
    tensors: list[CallTensors] | None = None,
    package: str = "",
) -> Trace:
    """Run a forward pass and record calls of submodules, as they end.

    Parameters
    ----------
    predictor : torch.nn.Module
        Its named submodules are watched.
    run : callable
        One autoregressive step.
    tensors : list of CallTensors, optional
        The tensors of each call are appended here, in the order of the calls.
    package : str, optional
        Whose lines make the calls; needed with `tensors`.
    """
    recorder = _Recorder()
    with ExitStack() as hooks:
        for name, module in predictor.named_modules():
            if name:
                _watch(name, module, recorder, tensors, package, hooks)
        run()
    return recorder.finish()


def fingerprint(tensor: Tensor) -> Tensor:
    """Return the row of a trace for a tensor of any shape, not empty.

    (SAMPLES + MOMENTS,) float64, on the CPU.
    """
    flat = tensor.detach().to("cpu", torch.float64).reshape(-1)
    position = torch.linspace(0, len(flat) - 1, SAMPLES).round().long()
    # In place: it may be the largest tensor of a model.
    weight = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    weight.div_(len(flat)).mul_(flat)
    moments = torch.stack([flat.mean(), flat.square().mean(), weight.mean()])
    return torch.cat([flat[position], moments])


def column_moments(tensor: Tensor) -> Tensor:
    """Return mean and mean square of each column, (2, C) float64."""
    flat = tensor.detach().to("cpu", torch.float64)
    flat = flat.reshape(-1, tensor.shape[-1])
    return torch.stack([flat.mean(dim=0), flat.square().mean(dim=0)])


class _Recorder:
    """Collects the calls of one forward pass."""

    def __init__(self) -> None:
        self.trace = Trace()
        self._rows: list[Tensor] = []
        self._known: dict[bytes, int] = {}
        self._returned: set[int] = set()

    def _row(self, tensor: Tensor) -> int:
        row = fingerprint(tensor)
        key = row.numpy().tobytes() + repr(tuple(tensor.shape)).encode()
        if key not in self._known:
            self._known[key] = len(self._rows)
            self._rows.append(row)
            self.trace.shapes.append(tuple(tensor.shape))
        return self._known[key]

    def enter(self, inputs: list[Tensor]) -> tuple[int, ...]:
        """Record the inputs of a call, before the module can change them."""
        rows = []
        for tensor in inputs:
            row = self._row(tensor)
            if row not in self._returned and tensor.dim() > 1:
                self.trace.columns.setdefault(row, column_moments(tensor))
            rows.append(row)
        return tuple(rows)

    def leave(
        self,
        name: str,
        module: nn.Module,
        inputs: tuple[int, ...],
        outputs: list[Tensor],
    ) -> None:
        """Record a call with its outputs."""
        rows = tuple(self._row(tensor) for tensor in outputs)
        self._returned.update(rows)
        kind = kind_of(type(module).__name__)
        self.trace.calls.append(Call(name, kind, inputs, rows))

    def finish(self) -> Trace:
        if self._rows:
            self.trace.rows = torch.stack(self._rows)
        return self.trace


def _floating(value: Any) -> Iterator[Tensor]:
    """Yield the floating tensors in nested containers, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _floating(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _floating(item)


def _watch(
    name: str,
    module: nn.Module,
    recorder: _Recorder,
    tensors: list[CallTensors] | None,
    package: str,
    hooks: ExitStack,
) -> None:
    """Record each call of a module until the hooks are removed."""
    pending: list[tuple[tuple[int, ...], CallTensors]] = []

    def copies(values: list[Tensor]) -> list[Tensor]:
        # A module may change its inputs in place.
        return [] if tensors is None else [v.detach().clone() for v in values]

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = list(_floating([args, kwargs]))
        line = "" if tensors is None else running_line(package)
        seen = CallTensors(copies(inputs), line=line)
        pending.append((recorder.enter(inputs), seen))

    def after(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        rows, seen = pending.pop()
        outputs = list(_floating(out))
        recorder.leave(name, module, rows, outputs)
        if tensors is not None:
            seen.outputs = copies(outputs)
            tensors.append(seen)

    hooks.callback(
        module.register_forward_pre_hook(before, with_kwargs=True).remove
    )
    hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
