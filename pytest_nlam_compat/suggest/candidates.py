"""Operations that may fix what a diagnosis found; none is verified."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.model_state import differing_weights
from pytest_nlam_compat.diagnosis.module_names import predictor_prefix
from pytest_nlam_compat.diagnosis.name_patterns import (
    Operations,
    exchange,
    generalise,
)
from pytest_nlam_compat.diagnosis.parameter_matching import (
    ParameterChange,
    match_parameters,
)
from pytest_nlam_compat.diagnosis.tensor_changes import ColumnChange
from pytest_nlam_compat.migrations import (
    Concatenate,
    FoldInputs,
    FoldStaticFeatures,
    Operation,
    PermuteInputColumns,
    ReverseEdges,
    SavedRun,
    Scale,
    ShiftNodes,
    Split,
    Transpose,
)
from pytest_nlam_compat.migrations.operations.tensors import OnTensors
from pytest_nlam_compat.suggest.hyper_parameter_candidates import (
    candidates_for_arguments,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def candidates_for_outputs(
    subject: ReferenceUnderTest, model: nn.Module, found: Diagnosis
) -> Iterator[Operations]:
    """Yield operations that may fix what was found, the likeliest first."""
    prefix = predictor_prefix(subject, model)
    if found.other:
        yield exchange(f"{prefix}{found.module}", f"{prefix}{found.other}")
    if found.columns is not None and found.layer:
        name = f"{found.layer}.weight"
        for operations in _for_columns(found.columns, found.layer):
            if all(isinstance(o, OnTensors) for o in operations):
                yield from _everywhere(operations, name, subject.migrated)
            yield operations
    if found.edges is not None and found.file:
        row, shift = found.edges.row, found.edges.shift
        if row is None:
            yield (ReverseEdges(found.file),)
        else:
            yield (ShiftNodes(found.file, row, -shift),)
    if found.kind in ("class", "layer"):
        name = f"{prefix}{found.module}.weight"
        weight = subject.migrated.state_dict.get(name)
        if weight is not None and weight.dim() == 2:
            yield (Transpose(name),)
    if found.kind == "weights":
        yield from _for_changed_weights(subject, model)
    if found.kind == "hyper-parameter":
        yield from candidates_for_arguments(subject)
    if found.kind == "output":
        yield from _for_exchanged_outputs(subject.migrated, prefix)


def candidates_for_loading(
    subject: ReferenceUnderTest, wanted: dict[str, tuple[int, ...]]
) -> list[Operations]:
    """List operations that may make a run fit a model, the likeliest first."""
    given = {n: tuple(t.shape) for n, t in subject.migrated.state_dict.items()}
    changes = match_parameters(given, wanted)
    if not all(change.choices for change in changes):
        return []
    found = [_chosen(changes, 0)]
    if any(len(change.choices) > 1 for change in changes):
        found.append(_chosen(changes, 1))
    if any(change.kind == "transposed" for change in changes):
        # A square weight has the same shape either way.
        square = [
            Transpose(name)
            for name, shape in wanted.items()
            if len(shape) == 2 and shape[0] == shape[1]
        ]
        found.append((*found[0], *square))
    return [operations for operations in found if operations]


def _chosen(changes: list[ParameterChange], choice: int) -> Operations:
    return tuple(
        operation
        for change in changes
        for operation in change.choices[min(choice, len(change.choices) - 1)]
    )


def _for_columns(change: ColumnChange, layer: str) -> Iterator[Operations]:
    """Change the columns of the first Linear that meets a changed input."""
    name = f"{layer}.weight"
    if change.kind == "reordered":
        for order in (change.order, *change.others):
            yield (PermuteInputColumns(name, order),)
    elif change.kind == "added":
        # Loading needed as many columns: zeros stand at the end already.
        spare = iter(range(max(change.order) + 1, len(change.order)))
        order = tuple(o if o >= 0 else next(spare) for o in change.order)
        yield (PermuteInputColumns(name, order),)
    elif change.kind == "scaled":
        groups: dict[float, list[int]] = {}
        for column, factor in enumerate(change.scale):
            if factor != 1:
                groups.setdefault(factor, []).append(column)
        width = len(change.scale)
        yield tuple(
            Scale(
                name,
                1 / factor,
                columns=None if len(columns) == width else tuple(columns),
            )
            for factor, columns in groups.items()
        )
    elif change.kind == "shifted":
        # The dataset's own statistics first: numbers fit one dataset only.
        yield (FoldStaticFeatures(layer, "standardised", "raw"),)
        yield (_fold(change, layer),)


def _fold(change: ColumnChange, layer: str) -> FoldInputs:
    """Fold the columns that changed, and no others."""
    changed = [
        i
        for i, (factor, offset) in enumerate(
            zip(change.scale, change.shift, strict=True)
        )
        if factor != 1 or offset != 0
    ]
    block = slice(changed[0], changed[-1] + 1)
    scale, shift = change.scale[block], change.shift[block]
    return FoldInputs(
        layer,
        tuple(1 / factor for factor in scale),
        tuple(-b / a for a, b in zip(scale, shift, strict=True)),
        start=block.start,
    )


def _everywhere(
    operations: Operations, name: str, run: SavedRun
) -> Iterator[Operations]:
    """Do the same to all weights of this place and shape in the model."""
    end = name.split(".")[-3:]
    shape = run.state_dict[name].shape if name in run.state_dict else None
    alike = [
        other
        for other, tensor in run.state_dict.items()
        if other.split(".")[-3:] == end and tensor.shape == shape
    ]
    if len(alike) < 2:
        return
    patterns = generalise(alike, run.state_dict)
    yield tuple(
        replace(operation, names=pattern)
        for operation in operations
        if isinstance(operation, OnTensors)
        for pattern in patterns
    )


def _for_changed_weights(
    subject: ReferenceUnderTest, model: nn.Module
) -> Iterator[Operations]:
    """Undo beforehand what loading does to weights."""
    names = differing_weights(subject, model)
    loaded, given = model.state_dict(), subject.migrated.state_dict
    found = [_undo(name, loaded[name].cpu(), given[name]) for name in names]
    operations = tuple(o for o in found if o is not None)
    if len(operations) == len(names):
        yield operations


def _undo(name: str, loaded: Tensor, given: Tensor) -> Operation | None:
    if loaded.dim() == 2 and torch.equal(loaded, given.T):
        return Transpose(name)
    ratio = (loaded / given)[given != 0]
    if ratio.numel() and bool((ratio == ratio[0]).all()):
        factor = float(ratio[0])
        if factor and math.isfinite(factor):
            return Scale(name, 1 / factor)
    return None


def _for_exchanged_outputs(run: SavedRun, prefix: str) -> Iterator[Operations]:
    """Exchange the halves of the last layer: mean and standard deviation."""
    last = [n for n in run.state_dict if n.startswith(f"{prefix}output_map.")]
    biases = [n for n in last if n.endswith(".bias")]
    if not biases or run.state_dict[biases[-1]].shape[0] % 2:
        return
    operations: list[Operation] = []
    for name in (biases[-1].removesuffix("bias") + "weight", biases[-1]):
        half = run.state_dict[name].shape[0] // 2
        one, two = f"{name}_first", f"{name}_second"
        operations += [
            Split(name, {one: half, two: half}),
            Concatenate((two, one), name),
        ]
    yield tuple(operations)
