"""Fingerprints of what goes into and out of each submodule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.references.reference import (
    SAMPLES,
    Call,
    Trace,
    kind_of,
)


def fingerprint(tensor: Tensor) -> Tensor:
    """Return one row for a tensor.

    Parameters
    ----------
    tensor : Tensor
        Of any shape, not empty.

    Returns
    -------
    Tensor
        (SAMPLES + MOMENTS,) float64, on the CPU.
    """
    flat = tensor.detach().to("cpu", torch.float64).reshape(-1)
    position = torch.linspace(0, len(flat) - 1, SAMPLES).round().long()
    weight = torch.arange(1, len(flat) + 1, dtype=torch.float64) / len(flat)
    moments = torch.stack(
        [flat.mean(), flat.square().mean(), (flat * weight).mean()]
    )
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
        self._made: set[int] = set()

    def _row(self, tensor: Tensor) -> int:
        row = fingerprint(tensor)
        key = row.numpy().tobytes() + repr(tuple(tensor.shape)).encode()
        if key not in self._known:
            self._known[key] = len(self._rows)
            self._rows.append(row)
            self.trace.shapes.append(tuple(tensor.shape))
        return self._known[key]

    def enter(self, inputs: Any) -> tuple[int, ...]:
        """Take the inputs of a call, before the module can change them."""
        rows = []
        for tensor in _tensors(inputs):
            row = self._row(tensor)
            if row not in self._made and tensor.dim() > 1:
                self.trace.columns.setdefault(row, column_moments(tensor))
            rows.append(row)
        return tuple(rows)

    def leave(
        self, name: str, module: nn.Module, inputs: tuple[int, ...], out: Any
    ) -> None:
        """Take the outputs of a call."""
        outputs = tuple(self._row(tensor) for tensor in _tensors(out))
        self._made.update(outputs)
        kind = kind_of(type(module).__name__)
        self.trace.calls.append(Call(name, kind, inputs, outputs))

    def finish(self) -> Trace:
        """Return the trace with its rows stacked."""
        if self._rows:
            self.trace.rows = torch.stack(self._rows)
        return self.trace


def _tensors(value: Any) -> Iterator[Tensor]:
    """Floating tensors in nested containers, in order."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def record(predictor: nn.Module, run: Callable[[], object]) -> Trace:
    """Run a forward pass and remember what each submodule did.

    Parameters
    ----------
    predictor : torch.nn.Module
        Whose named submodules are watched.
    run : callable
        One autoregressive step.

    Returns
    -------
    Trace
        Calls in the order in which they ended.
    """
    recorder = _Recorder()
    with ExitStack() as hooks:
        for name, module in predictor.named_modules():
            if name:
                _watch(name, module, recorder, hooks)
        run()
    return recorder.finish()


def _watch(
    name: str, module: nn.Module, recorder: _Recorder, hooks: ExitStack
) -> None:
    pending: list[tuple[int, ...]] = []

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        pending.append(recorder.enter([args, kwargs]))

    def after(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        recorder.leave(name, module, pending.pop(), out)

    hooks.callback(
        module.register_forward_pre_hook(before, with_kwargs=True).remove
    )
    hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
