"""The history of neural-lam, and the operations to write more of it."""

from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import (
    All,
    HasHyperParameter,
    Holds,
    Migration,
    Not,
)
from pytest_nlam_compat.migrations.operations import *  # noqa: F403
from pytest_nlam_compat.migrations.operations import __all__ as _operations
from pytest_nlam_compat.migrations.origin import detect_origin
from pytest_nlam_compat.migrations.planning import Registry, apply, plan
from pytest_nlam_compat.migrations.reading import (
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.migrations.repository import read_steps
from pytest_nlam_compat.migrations.saved_run import (
    Optimizer,
    SavedRun,
    Statistics,
)
from pytest_nlam_compat.migrations.stamps import refuse_newer, stamp
from pytest_nlam_compat.migrations.upstream import as_callables

__all__ = [
    "HISTORY",
    "All",
    "HasHyperParameter",
    "Holds",
    "Migration",
    "Not",
    "Optimizer",
    "Registry",
    "SavedRun",
    "Statistics",
    "apply",
    "as_callables",
    "detect_origin",
    "plan",
    "read_steps",
    "refuse_newer",
    "saved_run_from_checkpoint",
    "stamp",
    "to_checkpoint_dict",
    *_operations,
]
