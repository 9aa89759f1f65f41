"""neural-lam's own registry of migrations (#701), where the code has one."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

MODULE = "neural_lam.migrations"


@dataclass(frozen=True)
class UpstreamRegistry:
    """What ``neural_lam.migrations`` offers.

    Attributes
    ----------
    migrations : tuple
        Objects with ``target_version``, ``description``, ``apply`` (None for
        a hard break) and ``hard_break``, in the order of their list.
    newest : int
        The stamp of a file that the code writes.
    """

    migrations: tuple[Any, ...]
    newest: int


def upstream_registry() -> UpstreamRegistry | None:
    """Return the current code's own registry, None where it has none."""
    if importlib.util.find_spec(MODULE) is None:
        return None
    module = importlib.import_module(MODULE)
    if not hasattr(module, "MIGRATIONS"):
        return None
    migrations = tuple(module.MIGRATIONS)
    newest = max((one.target_version for one in migrations), default=0)
    return UpstreamRegistry(
        migrations, getattr(module, "CURRENT_CHECKPOINT_VERSION", newest)
    )
