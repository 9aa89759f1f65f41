"""Where the code under test runs, and may fail in any way it likes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

_OURS = Path(__file__).resolve().parents[1]


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
        message = " ".join(str(cause).split())
        if len(message) > 500:
            message = f"{message[:500]} ..."
        raise CompatError(
            f"{doing} failed.",
            facts={
                "cause": f"{type(cause).__name__}: {message}",
                "raised in": _place(cause),
            },
            remedy="If the change is wanted, add a migration for it; "
            "otherwise mend what raised.",
        ) from cause


def _place(cause: BaseException) -> str:
    """Return the innermost frame of the code under test."""
    frames = traceback.extract_tb(cause.__traceback__)
    theirs = [f for f in frames if _is_theirs(f.filename)]
    outside = [f for f in frames if not _is_ours(f.filename)]
    frame = (theirs or outside or list(frames))[-1]
    return f"{frame.filename}:{frame.lineno}, in {frame.name}"


def _is_theirs(filename: str) -> bool:
    package = getattr(sys.modules.get("neural_lam"), "__file__", None)
    if package is None:
        return False
    # Not by name: a clone called neural_lam holds an environment, too.
    return Path(filename).is_relative_to(Path(package).parent)


def _is_ours(filename: str) -> bool:
    return Path(filename).resolve().is_relative_to(_OURS)
