"""How the checks run on several workers of pytest-xdist.

Imports nothing heavy: the process that hands out tests starts its workers
first, and imports neural_lam while they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.selection import Selection


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs what another one hands out."""
    return hasattr(config, "workerinput")


def hands_out(config: pytest.Config) -> bool:
    """Whether this process hands out tests and runs none."""
    spread = config.getoption("dist", "no") != "no"
    collects = config.getoption("collectonly")
    return spread and not collects and not is_worker(config)


class LateSelection:
    """Makes the selection once the workers are on their way."""

    def __init__(
        self, select: Callable[[pytest.Config, pytest.Session], None]
    ) -> None:
        self._select = select

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Select, and show what pytest's own header is too early for."""
        config = session.config
        self._select(config, session)
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        summary: Any = config.pluginmanager.get_plugin("nlam-compat-summary")
        if reporter and reporter.showheader and not reporter.no_header:
            for line in summary.pytest_report_header():
                reporter.write_line(line)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that runs all checks of a reference on one worker.

    They share its models. None if the user has chosen with ``--dist``, for
    which ``-n`` alone sets ``load``.
    """
    if config.known_args_namespace.dist != "no":
        return None
    from xdist.scheduler import LoadScopeScheduling

    from pytest_nlam_compat.checks.selection import selection_of

    class ByReference(LoadScopeScheduling):  # type: ignore[misc]
        """Hands out the tests of a reference together, others one by one."""

        def _split_scope(self, nodeid: str) -> str:
            parameter = nodeid.rpartition("[")[2].removesuffix("]")
            return parameter if parameter in references else nodeid

        def remove_node(self, node: Any) -> Any:
            """Take away a worker; return the test by which it died, if any.

            Unlike in the base class this is not run again: it would end the
            next worker as well.
            """
            work = self.assigned_work[node]
            crashed = None
            for unit in work.values():
                for nodeid, completed in unit.items():
                    if not completed and crashed is None:
                        crashed, unit[nodeid] = nodeid, True
            # A worker that receives nothing but these never asks for more.
            for scope in [name for name, unit in work.items() if _done(unit)]:
                del work[scope]
            super().remove_node(node)
            return crashed

    selection: Selection = selection_of(config)
    references = {reference.id for reference in selection.references}
    return ByReference(config, log)


def _done(unit: Mapping[str, bool]) -> bool:
    return all(unit.values())
