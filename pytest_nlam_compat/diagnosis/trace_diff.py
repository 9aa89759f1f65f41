"""One step of the current code beside the trace of a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.module_names import (
    ModuleNames,
    current_module_names,
    predictor_prefix,
)
from pytest_nlam_compat.numerics.noise import ReplayNoise
from pytest_nlam_compat.numerics.tolerances import TRACE
from pytest_nlam_compat.numerics.torch_settings import (
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.references.reference import SAMPLES, Call, Trace
from pytest_nlam_compat.under_test.code_under_test import code_under_test
from pytest_nlam_compat.under_test.tracing import CallTensors, record_trace

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class CallPair:
    """A recorded call, and the same call by the current code.

    Attributes
    ----------
    module : str
        Current name, below the step predictor.
    then : int
        Index of the call in the trace of the reference.
    now : int or None
        Index in the trace of the current code; None if it makes no such call.
    inputs, outputs : float
        Largest difference, over the size of the tensor; infinite where
        shapes or the number of tensors differ.
    """

    module: str
    then: int
    now: int | None
    inputs: float = 0.0
    outputs: float = 0.0


@dataclass
class TraceDiff:
    """The calls of a reference beside those of the current code.

    Attributes
    ----------
    subject : ReferenceUnderTest
    model : torch.nn.Module
        The whole current model.
    then, now : Trace
        Of the reference, and of the current code.
    tensors : list of CallTensors
        Of each call of the current code.
    pairs : list of CallPair
        In the order of the reference.
    """

    subject: ReferenceUnderTest
    model: nn.Module
    then: Trace
    now: Trace
    tensors: list[CallTensors]
    pairs: list[CallPair]

    @property
    def predictor(self) -> nn.Module:
        """The step predictor of the current model."""
        return self.subject.adapter.step_predictor(self.model)

    @property
    def package(self) -> str:
        """Name of the package under test."""
        return self.subject.adapter.current.path.name

    @property
    def prefix(self) -> str:
        """Prefix of the parameters of the step predictor."""
        return predictor_prefix(self.subject, self.model)

    @property
    def added(self) -> list[str]:
        """Modules that only the current code calls."""
        paired = {pair.module for pair in self.pairs if pair.now is not None}
        called = dict.fromkeys(call.module for call in self.now.calls)
        return [name for name in called if name not in paired]

    def recorded(self, pair: CallPair) -> Call:
        """Return the call as the release made it."""
        return self.then.calls[pair.then]

    def submodule(self, pair: CallPair) -> nn.Module:
        """Return the current module of a call."""
        return self.predictor.get_submodule(pair.module)

    def inputs(self, pair: CallPair) -> list[Tensor]:
        """Return what the module receives from the current code."""
        assert pair.now is not None
        return self.tensors[pair.now].inputs

    def outputs(self, pair: CallPair) -> list[Tensor]:
        """Return what the module returns in the current code."""
        assert pair.now is not None
        return self.tensors[pair.now].outputs

    def enclosing(self, pair: CallPair) -> CallPair | None:
        """Return the call of the closest module around one, if any."""
        name = pair.module
        while "." in name:
            name = name.rpartition(".")[0]
            for candidate in self.pairs:
                if (
                    candidate.module == name
                    and candidate.then > pair.then
                    and candidate.now is not None
                ):
                    return candidate
        return None

    def first(self) -> CallPair | None:
        """Return the first call that differs, None where none does.

        Either its inputs agree, or it is the outermost module whose inputs
        differ although all calls before it agree.
        """
        for pair in self.pairs:
            if pair.now is None or agrees(pair.outputs):
                continue
            if agrees(pair.inputs):
                return pair
            while True:
                outer = self.enclosing(pair)
                if outer is None or agrees(outer.inputs):
                    return pair
                pair = outer
        return None

    def missing(self, before: CallPair) -> list[CallPair]:
        """List earlier calls that the current code no longer makes."""
        return [
            pair
            for pair in self.pairs
            if pair.now is None and pair.then < before.then
        ]


def compare_traces(subject: ReferenceUnderTest, model: nn.Module) -> TraceDiff:
    """Trace the first step of the current code and compare it.

    Parameters
    ----------
    subject : ReferenceUnderTest
        Of a reference that holds a trace.
    model : torch.nn.Module
        In float64, with the weights of the migrated run.

    Returns
    -------
    TraceDiff
    """
    then = subject.reference.trace
    now, tensors = trace_step(subject, model, torch.float64)
    pairs = _pairs(then, now, current_module_names(subject, model))
    return TraceDiff(subject, model, then, now, tensors, pairs)


def trace_step(
    subject: ReferenceUnderTest, model: nn.Module, dtype: torch.dtype
) -> tuple[Trace, list[CallTensors]]:
    """Run the first step as in the recording, and trace it."""
    init, target, forcing, _ = (
        tensor.to(subject.device) for tensor in subject.reference.batch(dtype)
    )
    noise = subject.reference.noise("rollout")
    first = noise[: len(noise) // subject.reference.description["ar_steps"]]
    tensors: list[CallTensors] = []
    with ExitStack() as stack:
        stack.enter_context(
            code_under_test("Tracing the first step of the current code")
        )
        stack.enter_context(reproducible())
        stack.enter_context(default_dtype(dtype))
        stack.enter_context(ReplayNoise(first))
        trace = record_trace(
            subject.adapter.step_predictor(model),
            lambda: subject.adapter.outputs(
                model, init, forcing[:, :1], target[:, :1]
            ),
            tensors,
        )
    return trace, tensors


def agrees(difference: float) -> bool:
    """Tell whether a difference between traces is only rounding."""
    return difference <= TRACE.relative


def row_difference(row: Tensor, expected: Tensor) -> float:
    """Compare two rows of traces, over the root mean square of the tensor."""
    square = SAMPLES + 1
    scale = torch.full_like(expected, float(expected[square].sqrt()))
    scale[square] = expected[square]
    scale = torch.where(scale > 0, scale, 1.0)
    share = float(((row - expected).abs() / scale).max())
    return float("inf") if share != share else share


def _difference(
    now: Trace, rows: Sequence[int], then: Trace, expected: Sequence[int]
) -> float:
    """Compare the inputs or the outputs of two calls."""
    if len(rows) != len(expected):
        return float("inf")
    worst = 0.0
    for row, wanted in zip(rows, expected, strict=True):
        if now.shapes[row] != then.shapes[wanted]:
            return float("inf")
        size = row_difference(now.rows[row], then.rows[wanted])
        worst = max(worst, size)
    return worst


def _pairs(then: Trace, now: Trace, names: ModuleNames) -> list[CallPair]:
    """Pair calls by the current name of their module, and by repetition."""
    indices = {
        key: index
        for index, key in enumerate(_numbered(c.module for c in now.calls))
    }
    current = [names.current(call.module) for call in then.calls]
    pairs = []
    for index, key in enumerate(_numbered(current)):
        found = indices.get(key)
        if found is None:
            pairs.append(CallPair(current[index], index, None))
            continue
        call, recorded = now.calls[found], then.calls[index]
        pairs.append(
            CallPair(
                current[index],
                index,
                found,
                _difference(now, call.inputs, then, recorded.inputs),
                _difference(now, call.outputs, then, recorded.outputs),
            )
        )
    return pairs


def _numbered(modules: Iterator[str] | list[str]) -> Iterator[tuple[str, int]]:
    """Pair each call with how often its module was called before."""
    seen: Counter[str] = Counter()
    for module in modules:
        yield module, seen[module]
        seen[module] += 1
