"""Say the same in fewer operations, which fit more references."""

from __future__ import annotations

from dataclasses import replace

from pytest_nlam_compat.diagnosis.column_blocks import in_place
from pytest_nlam_compat.diagnosis.module_names import renamed_tensors
from pytest_nlam_compat.diagnosis.name_patterns import (
    Operations,
    generalise,
    renames,
)
from pytest_nlam_compat.migrations import SavedRun
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.operations.tensors import OnTensors


def simplify(run: SavedRun, operations: Operations) -> Operations:
    """Write operations on a run in a shorter or more general way."""
    shorter = _with_added_columns_in_place(_one_rename(run, operations))
    shorter = _with_added_blocks(run, tuple(map(_without_unmoved, shorter)))
    return _with_patterns(shorter, run)


def _with_added_blocks(run: SavedRun, operations: Operations) -> Operations:
    """Say by blocks where columns are added."""
    found: list[op.Operation] = []
    for operation in operations:
        block = None
        if isinstance(operation, op.AddInputColumns):
            block = in_place(operation, run)
        found.append(block or operation)
        run = operation.apply(run)
    return tuple(found)


def _one_rename(run: SavedRun, operations: Operations) -> Operations:
    """Write a chain of renames as what it comes to."""
    if len(operations) < 2 or not all(
        isinstance(o, op.Rename) for o in operations
    ):
        return operations
    after = run
    for operation in operations:
        after = operation.apply(after)
    pairs = renamed_tensors(run.state_dict, after.state_dict)
    described = renames(pairs, run.state_dict)
    return tuple(o for _, _, group in described for o in group)


def _with_added_columns_in_place(operations: Operations) -> Operations:
    """Put new columns where they belong at once, not at the end first."""
    found = list(operations)
    for one in operations:
        for two in operations:
            if (
                isinstance(one, op.AddInputColumns)
                and isinstance(two, op.PermuteInputColumns)
                and one.names == two.names
            ):
                order = enumerate(two.order)
                places = tuple(new for new, old in order if old in one.columns)
                found[found.index(one)] = replace(one, columns=places)
                found.remove(two)
    return tuple(found)


def _without_unmoved(operation: op.Operation) -> op.Operation:
    """Name only the columns that move: others may be there or not."""
    if not isinstance(operation, op.PermuteInputColumns):
        return operation
    order = operation.order
    moved = [new for new, old in enumerate(order) if new != old]
    if not moved or operation.start is not None:
        return operation
    first, end = moved[0], moved[-1] + 1
    block = tuple(old - first for old in order[first:end])
    # A block at the end is there in inputs of any width.
    at_the_end = end == len(order) and first > 0
    start = first - len(order) if at_the_end else first
    return replace(operation, order=block, start=start)


def _with_patterns(operations: Operations, run: SavedRun) -> Operations:
    """Write the same operation on several tensors with patterns."""
    groups: dict[str, list[OnTensors]] = {}
    rest: list[op.Operation] = []
    for operation in operations:
        if (
            isinstance(operation, OnTensors)
            and operation.names in run.state_dict
        ):
            key = repr(replace(operation, names="*"))
            groups.setdefault(key, []).append(operation)
        else:
            rest.append(operation)
    if not any(len(group) > 1 for group in groups.values()):
        return operations
    joined = [
        replace(group[0], names=pattern)
        for group in groups.values()
        for pattern in generalise([o.names for o in group], run.state_dict)
    ]
    return (*rest, *joined)
