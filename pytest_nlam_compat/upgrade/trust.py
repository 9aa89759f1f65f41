"""Refusing files whose pickle names more than a checkpoint has to.

neural-lam's own loaders unpickle without limits: whoever gives them a file
lets it run what it names. A file that was upgraded here goes there next.
"""

from __future__ import annotations

from collections.abc import Collection

from pytest_nlam_compat.checkpoints.known import owner
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.errors import CompatError

_MOST_SHOWN = 20


def refuse_unknown(checkpoint: Checkpoint, allowed: Collection[str]) -> None:
    """Refuse a file that names unknown classes.

    Parameters
    ----------
    checkpoint : Checkpoint
    allowed : collection of str
        Module and name of those that are allowed besides.

    Raises
    ------
    CompatError
        With their list.
    """
    unknown = [
        named.path
        for named in checkpoint.globals
        if owner(named) is None and named.path not in allowed
    ]
    if not unknown:
        return
    shown = ", ".join(printable(name) for name in unknown[:_MOST_SHOWN])
    more = len(unknown) - _MOST_SHOWN
    raise CompatError(
        f"{printable(checkpoint.path.name)} names what no checkpoint of "
        "neural-lam has to.",
        facts={
            "file": printable(str(checkpoint.path), 1000),
            "unknown": f"{shown} and {more} more" if more > 0 else shown,
        },
        remedy="neural-lam would run them when it loads the file. If you know "
        "who made it and what they do, allow each by name: "
        + " ".join(f"--allow {printable(name)}" for name in unknown[:3])
        + (" ..." if len(unknown) > 3 else ""),
    )
