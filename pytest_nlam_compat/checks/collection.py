"""What pytest collects: the suite, once for each reference or registry."""

from __future__ import annotations

import atexit
import gc
from pathlib import Path

import pytest
import pytest_regressions.plugin  # noqa: F401 - the suite needs its fixture

from pytest_nlam_compat.checks.abort import abort_collection
from pytest_nlam_compat.checks.pytest_options import refuse_missing_fixtures
from pytest_nlam_compat.checks.run_results import NODE_ID
from pytest_nlam_compat.checks.selection import selection_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.migration_checks import registries

SUITE = Path(__file__).with_name("suite.py")


def add_suite(config: pytest.Config) -> None:
    """Add the ready-made checks to what is collected.

    If the command line names no path, only they run, so that
    ``pytest --nlam-compat`` answers one question, and quickly. It may name
    checks by the ids that reports show.

    Raises
    ------
    CompatError
        Nothing can be selected.
    """
    selection_of(config)
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
        selection = selection_of(metafunc.config)
        refuse_missing_fixtures(metafunc.config, metafunc.fixturenames)
        if "nlam_reference" in metafunc.fixturenames:
            mark = metafunc.definition.get_closest_marker("nlam_compat")
            references = {
                None: selection.migrated,
                "newest": selection.newest,
                "all": selection.references,
            }[mark.kwargs.get("of") if mark is not None else None]
            if mark is not None and (part := mark.kwargs.get("needs")):
                references = tuple(r for r in references if r.has(part))
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
        abort_collection(metafunc.config, error)
