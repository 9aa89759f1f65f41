"""Operations that fit the models of one width only.

Places of columns depend on how many variables a dataset has, or on the hidden
dimension: the same change of the code takes other numbers for each reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from pytest_nlam_compat.diagnosis.column_blocks import layouts
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.migrations import (
    AddInputColumns,
    ByWidth,
    FoldInputs,
    Operation,
    PermuteInputColumns,
    SavedRun,
    Split,
)
from pytest_nlam_compat.migrations.operations.blocks import EDGE, MESH
from pytest_nlam_compat.migrations.operations.tensors import full_matches

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

Use = tuple[Operations, list["ReferenceUnderTest"]]
"""Operations, and the references that need them."""

_COUNT_COLUMNS = (AddInputColumns, FoldInputs, PermuteInputColumns)


def names_in(operation: Operation) -> Iterable[str]:
    """Yield the names of modules and tensors in an operation."""
    for place in fields(operation):
        value = getattr(operation, place.name)
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list | tuple | dict):
            yield from (v for v in values if isinstance(v, str) and "." in v)


def is_width_specific(operation: Operation, run: SavedRun) -> bool:
    """Tell whether an operation has numbers that other models lack.

    Columns of inputs whose number is the same in all models, as those of the
    features of edges, may be counted.
    """
    if isinstance(operation, ByWidth):
        return True
    if isinstance(operation, Split):
        return isinstance(operation.into, Mapping)
    return isinstance(operation, _COUNT_COLUMNS) and any(
        next(layouts(run, name), EDGE) not in (EDGE, MESH)
        for name in _weights(operation, run)
    )


def shapes_of(
    operations: Operations, run: SavedRun
) -> frozenset[tuple[int, ...]]:
    """Return the shapes of all tensors that operations name."""
    return frozenset(
        tuple(run.state_dict[name].shape)
        for operation in operations
        for name in _weights(operation, run)
    )


def _weights(operation: Operation, run: SavedRun) -> Iterable[str]:
    """Yield the tensors that an operation names, or those of its layer."""
    for pattern in names_in(operation):
        yield from full_matches(pattern, run)
        yield from full_matches(f"{pattern}.weight", run)


def by_width(uses: Sequence[Use]) -> list[Use]:
    """Join operations on the same weights that depend on their width."""
    groups: dict[tuple[object, ...], list[Use]] = {}
    for number, (unit, subjects) in enumerate(uses):
        names = {name for operation in unit for name in names_in(operation)}
        kinds = tuple(type(operation) for operation in unit)
        # What has more than one name is about more than columns.
        key = (kinds, *names) if len(names) == 1 else (number,)
        groups.setdefault(key, []).append((unit, subjects))
    return [one for group in groups.values() for one in _joined(group)]


def _joined(group: list[Use]) -> list[Use]:
    if len(group) == 1:
        return group
    [name] = {n for operation in group[0][0] for n in names_in(operation)}
    # Some operations name the layer instead of its weight.
    weight = name if name.endswith(".weight") else f"{name}.weight"
    cases: dict[int, Operations] = {}
    together: list[ReferenceUnderTest] = []
    for unit, subjects in group:
        for subject in subjects:
            width = _width(subject.migrated, weight)
            if width is None or cases.setdefault(width, unit) is not unit:
                return group
            together.append(subject)
    return [((ByWidth(weight, cases),), together)]


def _width(run: SavedRun, pattern: str) -> int | None:
    """Count the columns of weights; None if no matrices of one width."""
    shapes = [run.state_dict[name].shape for name in full_matches(pattern, run)]
    widths = {shape[1] for shape in shapes if len(shape) == 2}
    return widths.pop() if len(widths) == 1 else None
