"""How an error of ours becomes a failed test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_nlam_compat.errors import CompatError


@contextmanager
def verdict() -> Iterator[None]:
    """Let a user see the message, and no traceback of ours."""
    __tracebackhide__ = True
    try:
        yield
    except CompatError as error:
        # Not chained: pytest would print the message once more as a cause.
        raise pytest.fail.Exception(str(error), pytrace=False) from None
