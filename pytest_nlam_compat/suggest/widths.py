"""One step of what differs only by the number of columns of a weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations import ByWidth, Operation
from pytest_nlam_compat.migrations.operations.tensors import full_matches
from pytest_nlam_compat.suggest.attempt import Operations

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

Using = tuple[Operations, list["ReferenceUnderTest"]]
"""Operations, and the references that need them."""


def words(operation: Operation) -> Iterable[str]:
    """Names of modules and tensors that an operation says."""
    for place in fields(operation):
        value = getattr(operation, place.name)
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list | tuple | dict):
            yield from (v for v in values if isinstance(v, str) and "." in v)


def by_width(using: Sequence[Using]) -> list[Using]:
    """Join operations on the same weights that depend on their width.

    Places of columns depend on how many variables a dataset has, or on the
    hidden dimension: each reference is mended by other numbers.

    Parameters
    ----------
    using : sequence of (tuple of Operation, list of ReferenceUnderTest)
        In the order in which they are applied.

    Returns
    -------
    list of (tuple of Operation, list of ReferenceUnderTest)
        Those that can't be joined are left as they are.
    """
    groups: dict[tuple[object, ...], list[Using]] = {}
    for number, (unit, subjects) in enumerate(using):
        said = {word for operation in unit for word in words(operation)}
        kinds = tuple(type(operation) for operation in unit)
        # What says more than one name is about more than columns.
        key = (kinds, *said) if len(said) == 1 else (number,)
        groups.setdefault(key, []).append((unit, subjects))
    return [one for group in groups.values() for one in _joined(group)]


def _joined(group: list[Using]) -> list[Using]:
    if len(group) == 1:
        return group
    [name] = {word for operation in group[0][0] for word in words(operation)}
    cases: dict[int, Operations] = {}
    together: list[ReferenceUnderTest] = []
    for unit, subjects in group:
        for subject in subjects:
            width = _width(subject, name)
            if width is None or cases.setdefault(width, unit) is not unit:
                return group
            together.append(subject)
    return [((ByWidth(_weight(name), cases),), together)]


def _weight(name: str) -> str:
    """Return the weight that an operation is about; some name a layer."""
    return name if name.endswith(".weight") else f"{name}.weight"


def _width(subject: ReferenceUnderTest, name: str) -> int | None:
    """Return the columns of a weight, None where it is no matrix."""
    run = subject.migrated
    shapes = {
        tuple(run.state_dict[found].shape)
        for found in full_matches(_weight(name), run)
    }
    widths = {shape[1] for shape in shapes if len(shape) == 2}
    return widths.pop() if len(widths) == 1 else None
