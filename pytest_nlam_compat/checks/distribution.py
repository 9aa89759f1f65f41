"""How the checks run on several workers of pytest-xdist.

The process that hands out tests imports neither torch nor neural_lam: what it
shows of the code and the references is in a file that a worker writes.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_nlam_compat.checks.header_and_summary import HeaderAndSummary
from pytest_nlam_compat.checks.pytest_options import locate_store
from pytest_nlam_compat.checks.report_files import reported
from pytest_nlam_compat.checks.run_results import run_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports.summary import header

_FILE = "nlam_compat_facts"
# As the parameter of a check: its release, and its case.
_REFERENCE = re.compile(r"\d+(\.\d+)*\w*-")


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs what another one hands out."""
    return hasattr(config, "workerinput")


def begin(config: pytest.Config) -> None:
    """Add the checks here or, if there are some, in the workers.

    Raises
    ------
    pytest.UsageError
        With the message of the CompatError, if nothing can be selected.
    """
    if is_worker(config):
        _add_in_worker(config)
        return
    with reported(config):
        try:
            hands_out = config.getoption("dist", "no") != "no"
            if not hands_out or config.getoption("collectonly"):
                from pytest_nlam_compat.checks.collection import add_suite

                add_suite(config)
                return
            # pytest-xdist clears --basetemp before it starts workers.
            locate_store(config)
        except CompatError as error:
            raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(_FromWorkers(config), "nlam-compat-workers")


def _add_in_worker(config: pytest.Config) -> None:
    from pytest_nlam_compat.checks.collection import add_suite

    told: dict[str, Any]
    try:
        add_suite(config)
        from pytest_nlam_compat.checks.report_facts import facts_of
        from pytest_nlam_compat.checks.selection import selection_of

        told = {"facts": facts_of(config, selection_of(config))}
    except CompatError as error:
        # The process that hands out tests raises it, and there is nothing
        # that could be collected.
        told = {"error": str(error)}
        config.args[:] = []
    path = Path(vars(config)["workerinput"][_FILE])
    path.write_text(json.dumps(told), encoding="utf-8")


class _FromWorkers:
    """Learns from workers what is checked, or why nothing can be."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        folder = tempfile.TemporaryDirectory(prefix="nlam-compat-")
        config.add_cleanup(folder.cleanup)
        self._folder = Path(folder.name)
        self._shown = False
        summary = HeaderAndSummary(run_of(config))
        config.pluginmanager.register(summary, "nlam-compat-summary")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to write."""
        node.workerinput[_FILE] = str(self._folder / node.gateway.id)

    # Before the ids that it has collected are sorted.
    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Read what a worker has written; show it once."""
        path = Path(node.workerinput[_FILE])
        told = json.loads(path.read_text(encoding="utf-8"))
        run = run_of(self._config)
        if "error" in told:
            run.reason = told["error"]
            raise pytest.UsageError(told["error"])
        if self._shown:
            return
        self._shown = True
        run.facts = told["facts"]
        plugins = self._config.pluginmanager
        reporter: Any = plugins.get_plugin("terminalreporter")
        if reporter and reporter.showheader and not reporter.no_header:
            for line in header(run.facts):
                reporter.write_line(line)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that runs all checks of a reference on one worker.

    They share its models. None if the user has chosen with ``--dist``, for
    which ``-n`` alone sets ``load``.
    """
    if config.known_args_namespace.dist != "no":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByReference(LoadScopeScheduling):  # type: ignore[misc]
        """Hands out the tests of a reference together, others one by one."""

        def _split_scope(self, nodeid: str) -> str:
            parameter = nodeid.rpartition("[")[2].removesuffix("]")
            return parameter if _REFERENCE.match(parameter) else nodeid

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

    return ByReference(config, log)


def _done(unit: Mapping[str, bool]) -> bool:
    return all(unit.values())
