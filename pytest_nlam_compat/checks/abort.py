"""End a run during collection. Imports nothing heavy."""

from __future__ import annotations

from typing import NoReturn

import pytest

from pytest_nlam_compat.checks.distribution import is_worker
from pytest_nlam_compat.errors import CompatError

_ABORT = "nlam-compat-abort"


def abort_collection(config: pytest.Config, error: CompatError) -> NoReturn:
    """Fail the module that is collected, and end the run after collection.

    A failed module alone would end the run with the status of an interrupted
    one, not with that of an impossible option.
    """
    # A worker of pytest-xdist passes its errors on, and must not end.
    goes_on = is_worker(config) or config.getoption(
        "continue_on_collection_errors"
    )
    if not goes_on and not config.pluginmanager.has_plugin(_ABORT):
        config.pluginmanager.register(_AbortAfterCollection(error), _ABORT)
    raise pytest.Collector.CollectError(str(error)) from error


class _AbortAfterCollection:
    def __init__(self, error: CompatError) -> None:
        self._error = error

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self) -> None:
        raise pytest.UsageError(str(self._error)) from self._error
