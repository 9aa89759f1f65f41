"""neural-lam's own stamp of a checkpoint file (#701)."""

from __future__ import annotations

from pytest_nlam_compat.adapters.upstream import UpstreamRegistry
from pytest_nlam_compat.migrations import SavedRun, refuse_newer
from pytest_nlam_compat.migrations.stamps import UPSTREAM_STAMP


def upstream_stamp(
    run: SavedRun, registry: UpstreamRegistry | None
) -> dict[str, int]:
    """Give the stamp of a file, to be handed on with what it holds.

    Without it the current code's own loader would begin with its first step.

    Parameters
    ----------
    run : SavedRun
    registry : UpstreamRegistry or None
        That of the current code.

    Returns
    -------
    dict of str to int
        One entry of a checkpoint, or none.

    Raises
    ------
    CompatError
        The stamp is newer than the current code, or no number.
    """
    if UPSTREAM_STAMP not in run.stamps:
        return {}
    stamp = run.stamps[UPSTREAM_STAMP]
    refuse_newer(stamp, registry.newest if registry else None)
    return {UPSTREAM_STAMP: stamp}
