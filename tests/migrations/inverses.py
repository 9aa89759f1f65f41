"""Operations that undo others, exactly, to test these by."""

from __future__ import annotations

from pytest_nlam_compat.migrations import (
    Add,
    Concatenate,
    Drop,
    MoveUnder,
    Operation,
    PermuteInputColumns,
    RelabelGrid,
    Rename,
    RenameHyperParameter,
    ReverseEdges,
    Scale,
    ShiftNodes,
    Split,
    Transpose,
)


def inverse(operation: Operation) -> Operation | None:
    """Return what undoes an operation; None if there is no such operation."""
    match operation:
        case Rename():
            return Rename(operation.new, operation.old, alone=operation.alone)
        case MoveUnder():
            return Rename(f"{operation.parent}.*", "*", alone=True)
        case Add():
            return Drop(operation.name)
        case Split():
            return Concatenate(
                tuple(operation.into), operation.name, dim=operation.dim
            )
        case Transpose() | ReverseEdges():
            return operation
        case Scale():
            return Scale(
                operation.names, 1 / operation.factor, operation.columns
            )
        case PermuteInputColumns():
            back = sorted(
                range(len(operation.order)), key=operation.order.__getitem__
            )
            return PermuteInputColumns(
                operation.names, tuple(back), operation.start
            )
        case ShiftNodes():
            return ShiftNodes(operation.stem, operation.row, -operation.by)
        case RelabelGrid():
            return RelabelGrid(operation.new, operation.old)
        case RenameHyperParameter():
            *parent, old = operation.path.split(".")
            path = ".".join([*parent, operation.name])
            return RenameHyperParameter(path, old)
    return None
