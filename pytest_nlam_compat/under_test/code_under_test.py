"""Where the code under test runs, and may fail in any way it likes."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

_OURS = Path(__file__).resolve().parents[1]
# What imports a module stands between it and whoever wanted it.
_IMPORTING = re.compile(r"<frozen |.*[/\\](?:_pytest|pluggy|importlib)[/\\]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def code_under_test(doing: str) -> Iterator[None]:
    """Turn whatever the current code raises into one clear error.

    Parameters
    ----------
    doing : str
        What it was asked to do, in a sentence that goes on with "failed".

    Raises
    ------
    CompatError
        With the cause and the line of the code under test that raised it.
    """
    try:
        yield
    except CompatError:
        raise
    # Not ours to foresee: a working tree can raise anything.
    except Exception as cause:
        # Messages of torch list every key; the first lines tell the kind.
        message = " ".join(_COLOUR.sub("", str(cause)).split())
        if len(message) > 500:
            message = f"{message[:500]} ..."
        raise CompatError(
            f"{doing} failed.",
            facts={
                "cause": f"{type(cause).__name__}: {message}",
                **_place(cause),
            },
            remedy="If the change is wanted, add a migration for it; "
            "otherwise mend what raised.",
        ) from cause


def _place(cause: BaseException) -> dict[str, str]:
    """Name the innermost line of the code under test, if there is one."""
    frames = traceback.extract_tb(cause.__traceback__)
    theirs = [f for f in frames if _is_theirs(f.filename)]
    outside = [
        f
        for f in frames
        if not _is_ours(f.filename) and not _IMPORTING.match(f.filename)
    ]
    if not theirs and not outside:
        return {}
    frame = (theirs or outside)[-1]
    return {"raised in": f"{frame.filename}:{frame.lineno}, in {frame.name}"}


def _is_theirs(filename: str) -> bool:
    package = getattr(sys.modules.get("neural_lam"), "__file__", None)
    if package is None:
        return False
    # Not by name: a clone called neural_lam holds an environment, too.
    return Path(filename).is_relative_to(Path(package).parent)


def _is_ours(filename: str) -> bool:
    return Path(filename).resolve().is_relative_to(_OURS)
