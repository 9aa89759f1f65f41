"""Operations on a saved run, one concern a module."""

from pytest_nlam_compat.migrations.operations.base import (
    CallFunction,
    HardBreak,
    Operation,
)
from pytest_nlam_compat.migrations.operations.blocks import (
    AddInputBlock,
    FoldInputBlock,
    PermuteInputBlocks,
)
from pytest_nlam_compat.migrations.operations.columns import (
    AddInputColumns,
    ByWidth,
    PermuteInputColumns,
    RepeatInputColumn,
)
from pytest_nlam_compat.migrations.operations.dataset_folds import (
    FoldDifferenceStatistics,
    FoldMeshPositions,
    FoldStaticFeatures,
)
from pytest_nlam_compat.migrations.operations.folds import FoldInputs
from pytest_nlam_compat.migrations.operations.graph import (
    NumberFromMinimum,
    RelabelGrid,
    ReverseEdges,
    ShiftNodes,
)
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    DropHyperParameter,
    MapHyperParameter,
    New,
    RenameHyperParameter,
    SetHyperParameter,
    UnwrapClass,
)
from pytest_nlam_compat.migrations.operations.names_and_order import (
    Drop,
    MoveUnder,
    Rename,
    Reorder,
)
from pytest_nlam_compat.migrations.operations.tensors import (
    Add,
    AddIdentity,
    Concatenate,
    Scale,
    Split,
    Stack,
    Transpose,
)

__all__ = [
    "Add",
    "AddIdentity",
    "AddInputBlock",
    "AddInputColumns",
    "ByWidth",
    "CallFunction",
    "Concatenate",
    "Drop",
    "DropHyperParameter",
    "FoldDifferenceStatistics",
    "FoldInputBlock",
    "FoldInputs",
    "FoldMeshPositions",
    "FoldStaticFeatures",
    "HardBreak",
    "MapHyperParameter",
    "MoveUnder",
    "New",
    "NumberFromMinimum",
    "Operation",
    "PermuteInputBlocks",
    "PermuteInputColumns",
    "RelabelGrid",
    "Rename",
    "RenameHyperParameter",
    "Reorder",
    "RepeatInputColumn",
    "ReverseEdges",
    "Scale",
    "SetHyperParameter",
    "ShiftNodes",
    "Split",
    "Stack",
    "Transpose",
    "UnwrapClass",
]
