"""Operations on columns for inputs of other widths.

Places of columns depend on how many variables a dataset has, or on the hidden
dimension: the same change of the code takes other numbers for each reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    ByWidth,
    Operation,
    PermuteInputColumns,
    SavedRun,
)
from pytest_nlam_compat.migrations.operations.tensors import full_matches
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.suggest.simplify import simplify

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

Use = tuple[Operations, list["ReferenceUnderTest"]]
"""Operations, and the references that need them."""


def names_in(operation: Operation) -> Iterable[str]:
    """Yield the names of modules and tensors in an operation."""
    for place in fields(operation):
        value = getattr(operation, place.name)
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list | tuple | dict):
            yield from (v for v in values if isinstance(v, str) and "." in v)


def resized(
    operations: Operations, fixed: ReferenceUnderTest, other: ReferenceUnderTest
) -> Operations | None:
    """Rewrite operations that fixed one reference for the widths of another.

    Columns are moved by whole blocks: the states, forcing and static features
    of the grid, or equal halves or thirds, as graph layers concatenate them.
    None where an order tears blocks apart, or an operation does not fit.
    """
    run, other_run = fixed.migrated, other.migrated
    found: list[Operation] = []
    try:
        for operation in operations:
            counterpart: Operation | None = operation
            if isinstance(operation, PermuteInputColumns):
                counterpart = _resized(
                    operation,
                    _columns(run, operation.names),
                    _columns(other_run, operation.names),
                    (fixed.reference, other.reference),
                )
            if counterpart is None:
                return None
            run = operation.apply(run)
            other_run = counterpart.apply(other_run)
            found.append(counterpart)
    except CompatError:
        return None
    return simplify(other.migrated, tuple(found))


def _resized(
    operation: PermuteInputColumns,
    width: int | None,
    other_width: int | None,
    references: tuple[Reference, Reference],
) -> PermuteInputColumns | None:
    if width is None or other_width is None:
        return None
    if width == other_width:
        return operation
    order = list(range(width))
    first = operation.start or 0
    first += width if first < 0 else 0
    moved = [first + old for old in operation.order]
    order[first : first + len(moved)] = moved
    for sizes, other_sizes in zip(
        _block_sizes(references[0], width),
        _block_sizes(references[1], other_width),
        strict=True,
    ):
        if sum(sizes) == width and sum(other_sizes) == other_width:
            new = _moved_alike(order, sizes, other_sizes)
            if new is not None:
                return replace(operation, order=new, start=None)
    return None


def _block_sizes(reference: Reference, width: int) -> Iterator[list[int]]:
    """Yield the sizes of blocks that code may have concatenated."""
    names = reference.dataset.names
    states = len(names["state"])
    forcing = reference.group("batch")["forcing"].shape[-1]
    yield [states, states, forcing, len(names["static"])]
    yield [width // 2] * 2
    yield [width // 3] * 3


def _moved_alike(
    order: Sequence[int], sizes: Sequence[int], other_sizes: Sequence[int]
) -> tuple[int, ...] | None:
    """Move blocks of other sizes as an order moves, or reverses, its own."""
    images = {
        tuple(block[::way]): other[::way]
        for block, other in zip(_cut(sizes), _cut(other_sizes), strict=True)
        for way in (-1, 1)
        if block
    }
    left, found = tuple(order), list[int]()
    while left:
        block = next((b for b in images if left[: len(b)] == b), None)
        if block is None:
            return None
        found += images[block]
        left = left[len(block) :]
    return tuple(found) if len(found) == sum(other_sizes) else None


def _cut(sizes: Sequence[int]) -> list[list[int]]:
    """Cut columns into blocks of these sizes."""
    ends = accumulate(sizes)
    return [list(range(e - n, e)) for n, e in zip(sizes, ends, strict=True)]


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
            width = _columns(subject.migrated, weight)
            if width is None or cases.setdefault(width, unit) is not unit:
                return group
            together.append(subject)
    return [((ByWidth(weight, cases),), together)]


def _columns(run: SavedRun, pattern: str) -> int | None:
    """Count the columns of weights; None if no matrices of one width."""
    shapes = [run.state_dict[name].shape for name in full_matches(pattern, run)]
    widths = {shape[1] for shape in shapes if len(shape) == 2}
    return widths.pop() if len(widths) == 1 else None
