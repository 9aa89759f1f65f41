"""neural-lam's own stamp of a checkpoint file (#701)."""

from __future__ import annotations

from pytest_nlam_compat.adapters.upstream import UpstreamRegistry
from pytest_nlam_compat.migrations import Origin, SavedRun, refuse_newer
from pytest_nlam_compat.migrations.origin import UPSTREAM_STAMP


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
        The stamp is newer than the current code.
    """
    stamp = run.stamps.get(UPSTREAM_STAMP)
    if stamp is None:
        return {}
    refuse_newer(Origin("", (), stamp), registry.newest if registry else None)
    return {UPSTREAM_STAMP: stamp}
