"""Why the first call that differs does so: its inputs, or its module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from pytest_nlam_compat.diagnosis.column_blocks import described
from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis, Kind
from pytest_nlam_compat.diagnosis.edge_changes import explain_edges
from pytest_nlam_compat.diagnosis.model_state import find_changed_weights
from pytest_nlam_compat.diagnosis.name_patterns import enclosing_pairs
from pytest_nlam_compat.diagnosis.tensor_changes import (
    explain_columns,
    input_labels,
    lower_precision,
    rounded_columns,
)
from pytest_nlam_compat.diagnosis.trace_diff import (
    CallPair,
    TraceDiff,
    agrees,
    owner,
)
from pytest_nlam_compat.under_test.source_lines import source_of

# Over the size of the input: what float32 rounding changes at most, and less
# than any other change that was ever met.
_ROUNDING = 1e-5
_ACTIVATIONS = frozenset(
    name
    for name in torch.nn.modules.activation.__all__
    if "Attention" not in name
)


def explain_call(diff: TraceDiff, pair: CallPair) -> Diagnosis:
    """Explain a call that differs while all before it agrees."""
    explainer = _CallExplainer(diff, pair)
    if agrees(pair.input_difference):
        return explainer.explain_module()
    return explainer.explain_input()


@dataclass(frozen=True)
class _CallExplainer:
    """Explains one call, the first that differs."""

    diff: TraceDiff
    pair: CallPair

    def _diagnosis(
        self,
        kind: Kind,
        cause: str,
        details: dict[str, str] | None = None,
        line: str = "",
    ) -> Diagnosis:
        """Point to the module, or to what calls it where its inputs differ.

        `line` is that of the change, by default the one that calls the module
        or what it runs.
        """
        diff, pair = self.diff, self.pair
        if agrees(pair.input_difference):
            label, path, here = "part of", pair.module, pair.output_difference
            line = line or self._code()
        else:
            outer = diff.enclosing(pair)
            label, path = "called by", outer.module if outer else ""
            here, line = pair.input_difference, line or pair.line
        name, cls = owner(diff.subject, diff.model, path)
        direct = type(diff.submodule(pair)) is cls
        holder = {} if direct else {label: f"{name} ({cls.__name__})"}
        return Diagnosis(
            kind=kind,
            cause=cause,
            module=pair.module,
            cls=diff.class_name(pair.module),
            line=line,
            source=source_of(cls),
            here=here if here < float("inf") else None,
            details=holder | (details or {}),
            layer=self._first_linear(),
        )

    def _code(self) -> str:
        """Return the method of the package under test that the module runs.

        The line that constructs it, where its class is not of the package.
        """
        cls = type(self.diff.submodule(self.pair))
        if cls.__module__.partition(".")[0] == self.diff.package:
            return source_of(cls)
        return self._built_line(self.pair.module)

    def _built_line(self, module: str) -> str:
        lines = self.diff.subject.build_lines
        return lines.of_module(f"{self.diff.prefix}{module}")

    def _named_line(self, buffer: str) -> str:
        """Return the line that registers a buffer of the step predictor."""
        lines = self.diff.subject.build_lines
        return lines.of_name(f"{self.diff.prefix}{buffer}")

    def _first_linear(self) -> str:
        """Return the full name of the first Linear that the input meets."""
        start = f"{self.diff.prefix}{self.pair.module}"
        for name, module in self.diff.submodule(self.pair).named_modules():
            if isinstance(module, torch.nn.Linear):
                return f"{start}.{name}" if name else start
        return ""

    def explain_module(self) -> Diagnosis:
        """Explain a call whose inputs agree and whose outputs don't."""
        diff, pair = self.diff, self.pair
        module = diff.submodule(pair)
        cls, was = diff.class_name(pair.module), pair.recorded.kind
        if cls != was:
            # An Identity in its place keeps the numbers of the other layers.
            alike = cls == "Identity" or _kind(was) == _kind(cls)
            return self._replaced(pair, _kind(was) if alike else "class")
        weights = find_changed_weights(
            diff.subject, diff.model, f"{diff.prefix}{pair.module}."
        )
        if weights is not None:
            line = source_of(type(diff.model), "on_load_checkpoint")
            return self._diagnosis(
                weights.kind, weights.cause, weights.details, line
            )
        if not list(module.named_children()):
            text = f"{cls} gives different outputs for the same input"
            return self._diagnosis(_kind(cls), text, {"now": repr(module)})
        other_calls = self._other_calls()
        if other_calls is not None:
            return other_calls
        if hasattr(module, "edge_index"):
            name = type(module).__name__
            text = f"the residual connection in {name} has changed"
            return self._diagnosis("residual", text)
        text = f"{cls} combines its submodules differently"
        return self._diagnosis("layer", text)

    def _replaced(self, pair: CallPair, kind: Kind) -> Diagnosis:
        cls = self.diff.class_name(pair.module)
        text = f"{pair.recorded.kind} was replaced by {cls}"
        line = self._built_line(pair.module)
        return self._diagnosis(kind, text, line=line)

    def _no_longer_called(self, gone: CallPair) -> Diagnosis:
        cls = gone.recorded.kind
        text = f"{cls} is no longer called"
        return self._diagnosis(_kind(cls), text, {"not called": gone.module})

    def _other_calls(self) -> Diagnosis | None:
        """Find a submodule that is no longer called, or a new one."""
        diff, start = self.diff, f"{self.pair.module}."
        for gone in diff.missing(self.pair):
            if gone.module.startswith(start):
                return self._no_longer_called(gone)
        for name in diff.added:
            if name.startswith(start):
                cls, line = diff.class_name(name), self._built_line(name)
                text = f"a new {cls} is called"
                return self._diagnosis(_kind(cls), text, {"new": name}, line)
        return None

    def explain_input(self) -> Diagnosis:
        """Explain a call whose inputs differ while all before it agrees."""
        diff, pair = self.diff, self.pair
        outer = diff.enclosing(pair)
        if outer and diff.class_name(outer.module) != outer.recorded.kind:
            return self._replaced(outer, "class")
        rows = pair.recorded.inputs
        if len(pair.inputs) != len(rows):
            text = f"{_role(pair.module)} receives a different number of inputs"
            return self._diagnosis("inputs", text)
        for gone in diff.missing(pair):
            # It returned this input.
            if gone.recorded.outputs == rows:
                return self._no_longer_called(gone)
        tensor, row = next(
            (tensor, row)
            for tensor, row in zip(pair.inputs, rows, strict=True)
            if not diff.is_row(tensor, row)
        )
        return (
            self._exchanged()
            or self._edges(outer)
            or self._columns(tensor, row)
            or self._rounded(tensor, row)
            or self._other_input(tensor, row)
        )

    def _exchanged(self) -> Diagnosis | None:
        """Find a module that receives what this one did, both still called."""
        diff, pair = self.diff, self.pair
        for other in diff.pairs:
            if (
                other.recorded.kind != pair.recorded.kind
                # It may have received the same all along.
                or agrees(other.input_difference)
                or len(other.inputs) != len(pair.recorded.inputs)
                or not all(map(diff.is_row, other.inputs, pair.recorded.inputs))
                or diff.called_anew(other.module)
                or diff.called_anew(pair.module)
            ):
                continue
            one, two = self._outermost(other.module)
            if one == two:
                continue
            text = f"{one} and {two} have exchanged their names or places"
            found = self._diagnosis("inputs", text)
            cls = diff.class_name(one)
            return replace(found, module=one, cls=cls, other=two)
        return None

    def _outermost(self, two: str) -> tuple[str, str]:
        """Go from layers to the lists that hold them in one place."""
        one = self.pair.module
        called = {pair.module for pair in self.diff.pairs} - {one, two}
        for outer, other in enclosing_pairs(one, two):
            if outer == other or {outer, other} & called:
                break
            one, two = outer, other
        return one, two

    def _edges(self, outer: CallPair | None) -> Diagnosis | None:
        """Explain what a graph layer gathers by a change of its edges."""
        diff, pair = self.diff, self.pair
        if outer is None or "edge_mlp" not in pair.module:
            return None
        layer = diff.submodule(outer)
        recorded = diff.then.rows[pair.recorded.inputs[0]]
        run = diff.subject.migrated
        change = explain_edges(layer, outer.inputs, recorded, run)
        if change is None:
            return None
        text, line = change.text, ""
        if change.file:
            text += f" of {change.file}"
            line = self._named_line(change.file)
        found = self._diagnosis("edges", text, line=line)
        return replace(found, edges=change)

    def _columns(self, tensor: Tensor, row: int) -> Diagnosis | None:
        """Explain an input by columns that moved, or changed their units."""
        diff = self.diff
        then = diff.then.columns.get(row)
        if then is None:
            return None
        change = explain_columns(then, diff.then.rows[row], tensor)
        if not change.confirmed:
            return None
        buffer = self._buffer(tensor)
        stem = "mesh_features" if buffer == "mesh_static_features" else buffer
        labels = input_labels(diff.subject.reference, then.shape[1])
        layer, run = self._first_linear(), diff.subject.migrated
        told = described(change, layer, run, [] if stem else labels)
        has = {
            "reordered": "has its columns in another order",
            "units": "has columns in other units",
            "added": "has more columns",
        }[change.kind]
        what = f"the input of {_role(self.pair.module)}"
        cause = f"{what}, {stem}, {has}" if stem else f"{what} {has}"
        found = self._diagnosis(
            "features" if stem else "inputs",
            cause,
            {"its columns": told},
            self._named_line(buffer) if buffer else "",
        )
        return replace(found, columns=change)

    def _buffer(self, tensor: Tensor) -> str:
        """Return the buffer, or list of buffers, that an input is, if any."""
        for name, buffer in self.diff.predictor.named_buffers():
            if torch.equal(buffer, tensor):
                return name.partition(".")[0]
        return ""

    def _rounded(self, tensor: Tensor, row: int) -> Diagnosis | None:
        """Explain an input that was rounded as a whole, or in some columns."""
        lost, then = "", self.diff.then
        if self.pair.input_difference < _ROUNDING:
            lost = lower_precision(tensor)
        if not lost and row in then.columns:
            lost = rounded_columns(then.columns[row], tensor)
        if not lost:
            return None
        text = f"the input of {_role(self.pair.module)} is rounded to {lost}"
        return self._diagnosis("precision", text)

    def _other_input(self, tensor: Tensor, row: int) -> Diagnosis:
        """Explain an input by what other modules returned."""
        diff, pair = self.diff, self.pair
        module = _role(pair.module)
        outputs = {
            earlier.module: earlier.outputs[0]
            for earlier in diff.pairs[: pair.then]
            if earlier.outputs
            and earlier.outputs[0].shape == tensor.shape
            and "." not in earlier.module
        }
        details = {}
        missing = diff.missing(pair)
        if missing:
            details["no longer called"] = missing[-1].module
        for (one, a), (two, b) in combinations(outputs.items(), 2):
            if diff.is_row(a + b, row):
                details["it received"] = (
                    f"the sum of the outputs of {one} and {two}"
                )
                text = f"the residual connection before {module} has changed"
                return self._diagnosis("residual", text, details)
        for name, output in outputs.items():
            if diff.is_row(output, row):
                details["it received"] = f"the output of {name}"
        text = f"{module} receives a different input"
        return self._diagnosis("inputs", text, details)


def _kind(cls: str) -> Kind:
    """Return the kind of cause that a changed class of module is."""
    if cls in _ACTIVATIONS:
        return "activation"
    if "Norm" in cls:
        return "normalisation"
    if cls.endswith("Aggregation"):
        return "aggregation"
    return "layer"


def _role(module: str) -> str:
    """Name a module without the numbers that only some references have."""
    return ".".join(s for s in module.split(".") if not s.isdigit())
