"""Where the code under test runs, and may fail in any way."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_nlam_compat.errors import CompatError

_OURS = Path(__file__).resolve().parents[1]
# Frames between a module that is imported and whoever imports it, and code
# without a file.
_IMPORTING = re.compile(r"<|.*[/\\](?:_pytest|pluggy|importlib)[/\\]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def code_under_test(doing: str) -> Iterator[None]:
    """Turn whatever the current code raises into one clear error.

    It names the cause and the line of the code under test. `doing` is the
    beginning of its sentence: "... failed."

    Raises
    ------
    CompatError
    """
    try:
        yield
    except CompatError:
        raise
    # A working tree can raise anything.
    except Exception as cause:
        # Messages of torch list every key; the first lines tell the kind.
        # Those of dataclass_wizard list every value; what it caught does not.
        told = getattr(cause, "base_error", cause)
        message = " ".join(_COLOUR.sub("", str(told)).split())
        if len(message) > 500:
            message = f"{message[:500]} ..."
        raise CompatError(
            f"{doing} failed.",
            facts={
                "cause": f"{type(told).__name__}: {message}",
                **_raised_in(cause),
            },
            remedy="If the change is intended, add a migration for it. If "
            "not, fix the error above.",
        ) from cause


def callers(context: int = 1) -> list[inspect.FrameInfo]:
    """Return what ``inspect.stack`` returns, without lines of source."""
    here = inspect.currentframe()
    assert here is not None
    return [
        inspect.FrameInfo(
            frame,
            frame.f_code.co_filename,
            line,
            frame.f_code.co_name,
            None,
            None,
        )
        for frame, line in traceback.walk_stack(here.f_back)
    ]


def _raised_in(cause: BaseException) -> dict[str, str]:
    """Name the innermost line of the code under test, if there is one."""
    frames = traceback.extract_tb(cause.__traceback__)
    theirs = [f for f in frames if _is_neural_lam(f.filename)]
    outside = [
        f
        for f in frames
        if not Path(f.filename).resolve().is_relative_to(_OURS)
        and not _IMPORTING.match(f.filename)
    ]
    if not theirs and not outside:
        return {}
    frame = (theirs or outside)[-1]
    return {"raised in": f"{frame.filename}:{frame.lineno}, in {frame.name}"}


def _is_neural_lam(filename: str) -> bool:
    package = getattr(sys.modules.get("neural_lam"), "__file__", None)
    if package is None:
        return False
    # Not by name: a clone called neural_lam may contain an environment.
    return Path(filename).is_relative_to(Path(package).parent)
