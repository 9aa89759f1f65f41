"""How pytest is configured in the working directory; nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import pytest

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.repository import INI_KEY, RepositorySetup

T = TypeVar("T")


def read_setup() -> RepositorySetup:
    """Read the configuration file alone, without conftest files."""
    return with_config(["-o", "addopts=", "--noconftest"], setup_of)


def setup_of(config: pytest.Config) -> RepositorySetup:
    """Return where the repository keeps its migrations."""
    return RepositorySetup(
        config.rootpath, config.getini(INI_KEY), config.inipath
    )


def with_config(
    options: Sequence[str], read: Callable[[pytest.Config], T]
) -> T:
    """Configure pytest, and return what `read` makes of its configuration.

    The options come after those of the configuration file.

    Raises
    ------
    CompatError
        If pytest can't be configured here.
    """
    reader = _ConfigReader(read)
    # Not captured, so that what a conftest.py prints is seen.
    status = pytest.main(["-p", "nlam_compat", "-s", *options], [reader])
    if not reader.found:
        raise CompatError(
            "pytest can't be configured here.",
            facts={"status": int(status)},
            remedy="Run `pytest --nlam-compat`, and fix the error it shows.",
        )
    return reader.found[0]


class _ConfigReader(Generic[T]):
    """Ends a run as soon as options, ini file and conftest are read."""

    def __init__(self, read: Callable[[pytest.Config], T]) -> None:
        self._read = read
        self.found: list[T] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        self.found.append(self._read(config))
        return 0
