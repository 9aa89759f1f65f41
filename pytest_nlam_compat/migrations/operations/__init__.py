"""Operations on a saved run, one concern a module."""

from pytest_nlam_compat.migrations.operations.added_columns import (
    AddInputColumns,
)
from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.operations.by_width import ByWidth
from pytest_nlam_compat.migrations.operations.columns import (
    MoveInputColumns,
    PermuteInputColumns,
    RepeatInputColumn,
)
from pytest_nlam_compat.migrations.operations.dataset_folds import (
    FoldDifferenceStatistics,
    FoldMeshPositions,
    FoldStaticFeatures,
)
from pytest_nlam_compat.migrations.operations.escapes import (
    CallFunction,
    HardBreak,
)
from pytest_nlam_compat.migrations.operations.folds import FoldInputs
from pytest_nlam_compat.migrations.operations.graph import (
    RelabelGrid,
    ReverseEdges,
    ScaleGraphFeatures,
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
from pytest_nlam_compat.migrations.operations.names import (
    Drop,
    MoveOut,
    MoveUnder,
    Rename,
)
from pytest_nlam_compat.migrations.operations.numbering import (
    NumberFromMinimum,
)
from pytest_nlam_compat.migrations.operations.ordering import Reorder
from pytest_nlam_compat.migrations.operations.structure import (
    Add,
    Concatenate,
    Split,
)
from pytest_nlam_compat.migrations.operations.tensors import (
    Cast,
    Reshape,
    Scale,
    Transpose,
)

__all__ = [
    "Add",
    "AddInputColumns",
    "ByWidth",
    "CallFunction",
    "Cast",
    "Concatenate",
    "Drop",
    "DropHyperParameter",
    "FoldDifferenceStatistics",
    "FoldInputs",
    "FoldMeshPositions",
    "FoldStaticFeatures",
    "HardBreak",
    "MapHyperParameter",
    "MoveInputColumns",
    "MoveOut",
    "MoveUnder",
    "New",
    "NumberFromMinimum",
    "Operation",
    "PermuteInputColumns",
    "RelabelGrid",
    "Rename",
    "RenameHyperParameter",
    "Reorder",
    "RepeatInputColumn",
    "Reshape",
    "ReverseEdges",
    "Scale",
    "ScaleGraphFeatures",
    "SetHyperParameter",
    "ShiftNodes",
    "Split",
    "Transpose",
    "UnwrapClass",
]
