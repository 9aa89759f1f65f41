"""neural-lam's own stamp of a checkpoint file (#701)."""

from __future__ import annotations

from pathlib import Path

from pytest_nlam_compat.adapters.upstream import upstream_registry
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.migrations import Origin, refuse_newer
from pytest_nlam_compat.migrations.origin import UPSTREAM_STAMP


def upstream_stamp(path: Path) -> dict[str, int]:
    """Read the stamp of a file, to be handed on with what it holds.

    Without it the current code's own loader would begin with its first step.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    dict of str to int
        One entry of a checkpoint, or none.

    Raises
    ------
    CompatError
        The stamp is newer than the current code.
    """
    with read_checkpoint(path) as checkpoint:
        stamp = checkpoint.data.get(UPSTREAM_STAMP)
    if stamp is None:
        return {}
    registry = upstream_registry()
    refuse_newer(Origin("", (), stamp), registry.newest if registry else None)
    return {UPSTREAM_STAMP: stamp}
