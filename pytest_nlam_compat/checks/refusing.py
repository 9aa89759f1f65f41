"""How a run ends that asks for references in vain."""

from __future__ import annotations

from typing import NoReturn

import pytest

from pytest_nlam_compat.errors import CompatError

_NAME = "nlam-compat-refused"


def refuse(config: pytest.Config, error: CompatError) -> NoReturn:
    """Refuse a module that is collected, and then the run.

    For the first alone pytest has the status of a run that was interrupted,
    not that of an impossible option.

    Parameters
    ----------
    config : pytest.Config
    error : CompatError

    Raises
    ------
    pytest.Collector.CollectError
        With the text of what is wrong.
    """
    # A worker of pytest-xdist hands its errors on, and must not end.
    worker = hasattr(config, "workerinput")
    goes_on = worker or config.getoption("continue_on_collection_errors")
    if not goes_on and not config.pluginmanager.has_plugin(_NAME):
        config.pluginmanager.register(_Refused(error), _NAME)
    raise pytest.Collector.CollectError(str(error)) from error


class _Refused:
    """Ends the run once all is collected."""

    def __init__(self, error: CompatError) -> None:
        self._error = error

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self) -> None:
        raise pytest.UsageError(str(self._error)) from self._error
