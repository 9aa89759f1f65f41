"""Operations that may mend what a diagnosis has found; none is verified."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.changes import Change
from pytest_nlam_compat.diagnosis.column_change import ColumnChange
from pytest_nlam_compat.diagnosis.exchanging import exchange
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.matching import match
from pytest_nlam_compat.diagnosis.patterns import generalise
from pytest_nlam_compat.diagnosis.renames import below_predictor
from pytest_nlam_compat.diagnosis.weights import differing
from pytest_nlam_compat.migrations import (
    Concatenate,
    FoldInputs,
    FoldStaticFeatures,
    Operation,
    PermuteInputColumns,
    RenameHyperParameter,
    ReverseEdges,
    SavedRun,
    Scale,
    ShiftNodes,
    Split,
    Transpose,
)
from pytest_nlam_compat.migrations.operations.tensors import OnTensors

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

Operations = tuple[Operation, ...]


def for_numbers(
    subject: ReferenceUnderTest, module: nn.Module, finding: Finding
) -> Iterator[Operations]:
    """Propose what may mend a finding, the likeliest first.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        The current model, loaded.
    finding : Finding

    Yields
    ------
    tuple of Operation
    """
    prefix = below_predictor(subject, module)
    if finding.other:
        yield exchange(f"{prefix}{finding.module}", f"{prefix}{finding.other}")
    if finding.columns is not None and finding.layer:
        name = f"{finding.layer}.weight"
        for operations in _for_columns(finding.columns, finding.layer):
            if all(isinstance(o, OnTensors) for o in operations):
                yield from _everywhere(operations, name, subject.migrated)
            yield operations
    if finding.edges is not None and finding.file is not None:
        stem, _ = finding.file
        if finding.edges.row is None:
            yield (ReverseEdges(stem),)
        else:
            row, by = finding.edges.row, finding.edges.shift
            yield (ShiftNodes(stem, row, -by),)
    if finding.kind in ("class", "layer"):
        name = f"{prefix}{finding.module}.weight"
        weight = subject.migrated.state_dict.get(name)
        if weight is not None and weight.dim() == 2:
            yield (Transpose(name),)
    if finding.kind == "weights":
        yield from _for_weights(subject, module)
    if finding.kind == "hyper-parameter":
        yield from _for_hyper_parameters(subject)
    if finding.kind == "output":
        yield from _for_outputs(subject, prefix)


def _for_columns(change: ColumnChange, layer: str) -> Iterator[Operations]:
    name = f"{layer}.weight"
    if change.kind == "reordered":
        for order in (change.order, *change.others):
            yield (PermuteInputColumns(name, order),)
    elif change.kind == "added":
        # The model is loaded: columns of zeros stand at the end already.
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
        # By the dataset's own statistics first: numbers are for one dataset.
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
    tail = name.split(".")[-3:]
    shape = run.state_dict[name].shape if name in run.state_dict else None
    alike = [
        other
        for other, tensor in run.state_dict.items()
        if other.split(".")[-3:] == tail and tensor.shape == shape
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


def _for_weights(
    subject: ReferenceUnderTest, module: nn.Module
) -> Iterator[Operations]:
    """Undo beforehand what loading does to weights."""
    names, exchanged = differing(subject, module)
    loaded, given = module.state_dict(), subject.migrated.state_dict
    found: list[Operation] = []
    for name in names:
        operation = _undo(name, loaded[name].cpu(), given[name])
        if operation is None:
            break
        found.append(operation)
    else:
        yield tuple(found)
    if exchanged and len(names) == 2:
        yield exchange(*names)


def _undo(name: str, loaded: Tensor, given: Tensor) -> Operation | None:
    if loaded.dim() == 2 and torch.equal(loaded, given.T):
        return Transpose(name)
    ratio = (loaded / given)[given != 0]
    if ratio.numel() and bool((ratio == ratio[0]).all()):
        factor = float(ratio[0])
        if factor and math.isfinite(factor):
            return Scale(name, 1 / factor)
    return None


_READ = re.compile(r"args(?:\.|,\s*[\"'])(\w+)")


def _for_hyper_parameters(subject: ReferenceUnderTest) -> Iterator[Operations]:
    """Rename an argument to what the current code asks for instead."""
    args = subject.hyper_parameters.get("args")
    if args is None:
        return
    source: Path = subject.adapter.current.path / "train_model.py"
    asked = set(_READ.findall(source.read_text(encoding="utf-8")))
    known = set(vars(args))
    for new in sorted(asked - known):
        for old in sorted(
            known - asked, key=lambda n: -_common_letters(n, new)
        ):
            if _common_letters(old, new) > 1:
                yield (RenameHyperParameter(f"args.{old}", new),)


def _common_letters(one: str, other: str) -> int:
    return len(set(one.split("_")) & set(other.split("_")))


def _for_outputs(
    subject: ReferenceUnderTest, prefix: str
) -> Iterator[Operations]:
    """Exchange the halves of the last layer: mean and standard deviation."""
    run = subject.migrated
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


def for_loading(
    subject: ReferenceUnderTest, wanted: dict[str, tuple[int, ...]]
) -> tuple[list[Change], list[Operations]]:
    """Propose what may make a run fit the current model.

    Parameters
    ----------
    subject : ReferenceUnderTest
        Whose run does not fit.
    wanted : dict of str to tuple of int
        Shapes by name, of the current model.

    Returns
    -------
    changes : list of Change
    proposals : list of tuple of Operation
        The likeliest first.
    """
    given = {n: tuple(t.shape) for n, t in subject.migrated.state_dict.items()}
    changes = match(given, wanted)
    if not all(change.choices for change in changes):
        return changes, []
    proposals = [_joined(changes, 0)]
    if any(len(change.choices) > 1 for change in changes):
        proposals.append(_joined(changes, 1))
    if any(change.kind == "transposed" for change in changes):
        proposals.append((*proposals[0], *_square(wanted)))
    return changes, [p for p in proposals if p]


def _square(wanted: dict[str, tuple[int, ...]]) -> list[Operation]:
    """Transpose as well what has the same shape either way."""
    return [
        Transpose(name)
        for name, shape in wanted.items()
        if len(shape) == 2 and shape[0] == shape[1]
    ]


def _joined(changes: list[Change], choice: int) -> Operations:
    return tuple(
        operation
        for change in changes
        for operation in change.choices[min(choice, len(change.choices) - 1)]
    )
