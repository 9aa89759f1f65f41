"""One step of the current code beside the trace of a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
from pytest_nlam_compat.references.reference import (
    SAMPLES,
    Call,
    Trace,
    kind_of,
)
from pytest_nlam_compat.under_test.code_under_test import code_under_test
from pytest_nlam_compat.under_test.tracing import (
    CallTensors,
    fingerprint,
    record_trace,
)

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
    called : bool
        Whether the current code makes the call, with inputs and outputs.
    line : str
        Line of the current code that makes the call.
    input_difference, output_difference : float
        Largest difference, over the size of the tensor; infinite where
        shapes or the number of tensors differ.
    """

    module: str
    then: int
    recorded: Call
    called: bool = False
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()
    line: str = ""
    input_difference: float = 0.0
    output_difference: float = 0.0


@dataclass
class TraceDiff:
    """The calls of a reference, in order, beside those of the current code."""

    subject: ReferenceUnderTest
    model: nn.Module
    then: Trace
    now: Trace
    pairs: list[CallPair]

    @property
    def predictor(self) -> nn.Module:
        """The step predictor of the current model."""
        return self.subject.adapter.step_predictor(self.model)

    @property
    def package(self) -> str:
        """The package under test."""
        return self.subject.adapter.current.path.name

    @property
    def prefix(self) -> str:
        """Prefix of the parameters of the step predictor."""
        return predictor_prefix(self.subject, self.model)

    @property
    def added(self) -> list[str]:
        """Modules that only the current code calls."""
        paired = {pair.module for pair in self.pairs if pair.called}
        called = dict.fromkeys(call.module for call in self.now.calls)
        return [name for name in called if name not in paired]

    def called_anew(self, module: str) -> bool:
        """Tell whether a module is not called as often as it was."""
        recorded = sum(pair.module == module for pair in self.pairs)
        return recorded != sum(c.module == module for c in self.now.calls)

    def submodule(self, pair: CallPair) -> nn.Module:
        """Return the current module of a call."""
        return self.predictor.get_submodule(pair.module)

    def class_name(self, module: str) -> str:
        """Return the name of the current class of a submodule."""
        return kind_of(type(self.predictor.get_submodule(module)).__name__)

    def is_row(self, tensor: Tensor, row: int) -> bool:
        """Tell whether a tensor is the one that a row of the trace records."""
        return tuple(tensor.shape) == self.then.shapes[row] and agrees(
            row_difference(fingerprint(tensor), self.then.rows[row])
        )

    def enclosing(self, pair: CallPair) -> CallPair | None:
        """Return the call of the closest module around one, if any."""
        name = pair.module
        while "." in name:
            name = name.rpartition(".")[0]
            for candidate in self.pairs[pair.then + 1 :]:
                if candidate.module == name and candidate.called:
                    return candidate
        return None

    def first(self) -> CallPair | None:
        """Return the first call that differs, None where none does.

        Either its inputs agree, or it is the outermost module whose inputs
        differ although all calls before it agree.
        """
        for pair in self.pairs:
            if not pair.called or agrees(pair.output_difference):
                continue
            if agrees(pair.input_difference):
                return pair
            while True:
                outer = self.enclosing(pair)
                if outer is None or agrees(outer.input_difference):
                    return pair
                pair = outer
        return None

    def missing(self, before: CallPair) -> list[CallPair]:
        """List earlier calls that the current code no longer makes."""
        return [pair for pair in self.pairs[: before.then] if not pair.called]


def compare_traces(subject: ReferenceUnderTest, model: nn.Module) -> TraceDiff:
    """Trace the first step of a migrated float64 model, and compare it."""
    then = subject.reference.trace
    now, tensors = trace_step(subject, model, torch.float64)
    names = current_module_names(subject, model)
    pairs = list(_pairs(then, now, tensors, names))
    return TraceDiff(subject, model, then, now, pairs)


def trace_step(
    subject: ReferenceUnderTest, model: nn.Module, dtype: torch.dtype
) -> tuple[Trace, list[CallTensors]]:
    """Run the first step as in the recording, and trace it."""
    init, target, forcing, _ = subject.recorded_batch(dtype)
    noise = subject.reference.noise("rollout")
    first = noise[: len(noise) // subject.reference.description["ar_steps"]]
    tensors: list[CallTensors] = []

    def run() -> object:
        return subject.adapter.outputs(
            model, init, forcing[:, :1], target[:, :1]
        )

    with code_under_test("Tracing the first step of the current code"):
        with reproducible(), default_dtype(dtype), ReplayNoise(first):
            predictor = subject.adapter.step_predictor(model)
            package = subject.adapter.current.path.name
            return record_trace(predictor, run, tensors, package), tensors


def owner(
    subject: ReferenceUnderTest, model: nn.Module, name: str
) -> tuple[str, type]:
    """Find the innermost module of the package under test around another.

    Returns its name, made readable for the step predictor, and its class.
    """
    package = subject.adapter.current.path.name
    predictor = subject.adapter.step_predictor(model)
    while name:
        cls = type(predictor.get_submodule(name))
        if cls.__module__.partition(".")[0] == package:
            return name, cls
        name = name.rpartition(".")[0]
    return "the step predictor", type(predictor)


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


def _pairs(
    then: Trace, now: Trace, tensors: list[CallTensors], names: ModuleNames
) -> Iterator[CallPair]:
    """Pair calls by the current name of their module, and by repetition."""
    indices = {
        key: index
        for index, key in enumerate(_numbered(c.module for c in now.calls))
    }
    keys = _numbered(names.current(call.module) for call in then.calls)
    for index, (key, recorded) in enumerate(zip(keys, then.calls, strict=True)):
        found = indices.get(key)
        if found is None:
            yield CallPair(key[0], index, recorded)
            continue
        call = now.calls[found]
        yield CallPair(
            key[0],
            index,
            recorded,
            True,
            tensors[found].inputs,
            tensors[found].outputs,
            tensors[found].line,
            _difference(now, call.inputs, then, recorded.inputs),
            _difference(now, call.outputs, then, recorded.outputs),
        )


def _numbered(modules: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Pair each call with how often its module was called before."""
    seen: Counter[str] = Counter()
    for module in modules:
        yield module, seen[module]
        seen[module] += 1
