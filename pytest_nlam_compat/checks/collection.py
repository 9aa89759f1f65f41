"""What pytest collects: the suite, once for each reference or registry.

What is heavy is imported when a run needs it.
"""

from __future__ import annotations

import atexit
import gc
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_nlam_compat.checks.distribution import is_worker
from pytest_nlam_compat.checks.pytest_options import refuse_missing_fixtures
from pytest_nlam_compat.checks.run_results import NODE_ID
from pytest_nlam_compat.errors import CompatError, clear_import_errors

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.selection import Selection

SUITE = Path(__file__).with_name("suite.py")
_ABORT = "nlam-compat-abort"


def add_suite(config: pytest.Config) -> None:
    """Add the ready-made checks to what is collected.

    If the command line names no path, only they run, so that
    ``pytest --nlam-compat`` answers one question, and quickly. It may name
    checks by the ids that reports show.
    """
    _selection(config)
    # torch, Lightning and the rest of what neural-lam imports are a million
    # objects that stay. Models come and go, and each time the collector would
    # walk through all of these: a tenth of the run.
    gc.freeze()
    config.add_cleanup(gc.unfreeze)
    # Nor when Python ends, which takes as long as importing some of them.
    atexit.register(gc.freeze)
    config.pluginmanager.register(_SuiteCollector(), "nlam-compat-suite")
    from_command_line = config.args_source is pytest.Config.ArgsSource.ARGS
    paths = config.args if from_command_line else []
    ids = [path for path in paths if path.startswith(f"{NODE_ID}::")]
    checks = [path.replace(NODE_ID, str(SUITE), 1) for path in ids]
    others = [path for path in paths if path not in ids]
    config.args[:] = [*others, *(checks or [str(SUITE)])]


def _selection(config: pytest.Config) -> Selection:
    with clear_import_errors():
        import pytest_regressions.plugin  # noqa: F401 - the suite needs it

        from pytest_nlam_compat.checks.selection import selection_of
    return selection_of(config)


class _SuiteCollector:
    """Collects the bundled suite under a short name."""

    @pytest.hookimpl
    def pytest_pycollect_makemodule(
        self, module_path: Path, parent: pytest.Collector
    ) -> pytest.Module | None:
        if module_path != SUITE:
            return None
        module: pytest.Module = pytest.Module.from_parent(
            parent, path=module_path, nodeid=NODE_ID
        )
        return module


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each selected reference, or for each registry."""
    try:
        selection = _selection(metafunc.config)
        refuse_missing_fixtures(metafunc.config, metafunc.fixturenames)
        # They import neural_lam, which works once the code was probed.
        from pytest_nlam_compat.judging.all_checks import CHECKS
        from pytest_nlam_compat.judging.migration_checks import registries

        if "nlam_reference" in metafunc.fixturenames:
            mark = metafunc.definition.get_closest_marker("nlam_compat")
            references = selection.migrated
            if mark is not None and "check" in mark.kwargs:
                check = CHECKS[mark.kwargs["check"]]
                references = selection.references_of(check)
            metafunc.parametrize(
                "nlam_reference",
                references,
                ids=[reference.id for reference in references],
                indirect=True,
                scope="session",
            )
        if "nlam_registry" in metafunc.fixturenames:
            names = registries(selection.migrations)
            metafunc.parametrize("nlam_registry", names, scope="session")
    except CompatError as error:
        _abort(metafunc.config, error)


def _abort(config: pytest.Config, error: CompatError) -> NoReturn:
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
