"""Which references are checked in this pytest run, against what."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pytest_nlam_compat.adapters.base import Adapter
from pytest_nlam_compat.adapters.probe import CurrentCode, probe
from pytest_nlam_compat.adapters.select import select
from pytest_nlam_compat.checks.collecting import repository_steps
from pytest_nlam_compat.checks.explaining import Explaining
from pytest_nlam_compat.checks.newer_references import NewerReferences
from pytest_nlam_compat.checks.refusing import refuse
from pytest_nlam_compat.checks.reporting import Reporting
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import Migration
from pytest_nlam_compat.references.format import Archive
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.store import Store
from pytest_nlam_compat.under_test.code_under_test import code_under_test
from pytest_nlam_compat.under_test.device import choose

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

SUITE = Path(__file__).with_name("suite.py")
NODE_ID = "nlam-compat"


@dataclass(frozen=True)
class Selection:
    """The references of this run, and the code that they are put before.

    Attributes
    ----------
    adapter : Adapter
    device : torch.device
    store : Store
        Where the archives are.
    references : tuple of Reference
        Those that are checked.
    newest : Version or None
        Newest release with references that is not above the current code:
        these must pass by the native route too.
    void : dict of (Version, str) to str
        Cases without a check, by release and name, with the reason.
    newer : tuple of Version
        Releases left out since the current code is older.
    notices : tuple of str
        What the store wants known.
    migrations : tuple of Migration
        What the repository under test brings along.
    """

    adapter: Adapter
    device: torch.device
    store: Store
    references: tuple[Reference, ...]
    newest: Version | None
    void: dict[tuple[Version, str], str] = field(default_factory=dict)
    newer: tuple[Version, ...] = ()
    notices: tuple[str, ...] = ()
    migrations: tuple[Migration, ...] = ()

    def subject(self, reference: Reference, folder: Path) -> ReferenceUnderTest:
        """Put a reference in front of the current code."""
        # It imports neural_lam, which only `probe` may find broken or absent.
        from pytest_nlam_compat.under_test.reference_under_test import (
            ReferenceUnderTest,
        )

        return ReferenceUnderTest(
            reference, self.adapter, folder, self.device, self.migrations
        )


_SELECTION = pytest.StashKey[Selection]()


def selection_of(config: pytest.Config) -> Selection:
    """Return the selection of a run; made when it is first asked for.

    Parameters
    ----------
    config : pytest.Config

    Raises
    ------
    CompatError
        If an option is impossible, or code or references are not there.
    """
    if _SELECTION not in config.stash:
        selection = config.stash[_SELECTION] = _select(config)
        reporting = Reporting(selection)
        config.pluginmanager.register(reporting, "nlam-compat-reporting")
        explaining = Explaining(NewerReferences(selection))
        config.pluginmanager.register(explaining, "nlam-compat-explaining")
    return config.stash[_SELECTION]


def add_suite(config: pytest.Config) -> None:
    """Add the ready-made checks to what is collected.

    Where the command line names no path only they are run, so that
    ``pytest --nlam-compat`` answers one question, and quickly. An id of a
    check, as reports show it, is as good as a path.

    Parameters
    ----------
    config : pytest.Config

    Raises
    ------
    pytest.UsageError
        With the text of what is wrong.
    """
    try:
        selection_of(config)
    except CompatError as error:
        raise pytest.UsageError(str(error)) from error
    _spare_the_collector(config)
    config.pluginmanager.register(_Suite(), "nlam-compat-suite")
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    paths = config.args if named else []
    ids = [path for path in paths if path.startswith(f"{NODE_ID}::")]
    checks = [path.replace(NODE_ID, str(SUITE), 1) for path in ids]
    others = [path for path in paths if path not in ids]
    config.args[:] = [*others, *(checks or [str(SUITE)])]


def _spare_the_collector(config: pytest.Config) -> None:
    """Leave out of garbage collection what imports have made, until the end.

    torch, Lightning and the rest of what neural-lam imports are a million
    objects that stay. Models come and go, and each time the collector would
    walk through all of these: a tenth of the run.
    """
    gc.freeze()
    config.add_cleanup(gc.unfreeze)


class _Suite:
    """Collects the bundled module under a short name."""

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
    """Run a test once for each selected reference.

    Parameters
    ----------
    metafunc : pytest.Metafunc
    """
    try:
        references = selection_of(metafunc.config).references
    except CompatError as error:
        refuse(metafunc.config, error)
    metafunc.parametrize(
        "nlam_reference",
        references,
        ids=[reference.id for reference in references],
        indirect=True,
        scope="session",
    )


def _select(config: pytest.Config) -> Selection:
    _refuse_regeneration(config)
    wanted = _specifier(config.getoption("nlam_compat_release"))
    pattern = config.getoption("nlam_compat_case")
    device = choose(config.getoption("nlam_compat_device"))
    store = Store.locate(
        url=config.getoption("nlam_compat_url")
        or config.getini("nlam_compat_url")
        or None,
        offline=config.getoption("nlam_compat_offline"),
    )
    current = probe()
    adapter = _adapter(config, current)
    known = [r for r in store.releases if r <= current.release]
    archives = [
        Archive(store.archive(release)) for release in wanted.filter(known)
    ]
    references, void = _sort(archives, adapter, pattern)
    if not references:
        raise CompatError(
            "No reference is selected.",
            facts={
                "releases": ", ".join(map(str, store.releases)) or "none",
                "current code": f"neural-lam {current.release}",
                "--nlam-compat-release": str(wanted) or "any",
                "--nlam-compat-case": pattern,
            }
            | {
                f"{release}-{case} is void": reason
                for (release, case), reason in void.items()
            },
            remedy="Correct the options; without them all are selected.",
        )
    return Selection(
        adapter=adapter,
        device=device,
        store=store,
        references=references,
        newest=max(known),
        void=void,
        newer=tuple(r for r in store.releases if r > current.release),
        notices=tuple(store.notices),
        migrations=repository_steps(config, current.release),
    )


def _adapter(config: pytest.Config, current: CurrentCode) -> Adapter:
    """Return the adapter that the repository brings, or one of ours."""
    with code_under_test("The hook pytest_nlam_compat_adapter"):
        adapter = config.hook.pytest_nlam_compat_adapter(current=current)
    with code_under_test("Importing what the checks need of neural_lam"):
        if adapter is None:
            adapter = select(current)
        # Here, so that it fails once rather than for each reference.
        importlib.import_module(
            "pytest_nlam_compat.under_test.reference_under_test"
        )
    if not isinstance(adapter, Adapter):
        raise CompatError(
            "The hook pytest_nlam_compat_adapter returned no adapter.",
            facts={
                "expected": "an instance of a subclass of "
                "pytest_nlam_compat.adapters.base.Adapter, or None",
                "found": repr(adapter),
            },
            remedy="Correct the hook in the conftest.py that implements it.",
        )
    return adapter


def _sort(
    archives: Sequence[Archive], adapter: Adapter, pattern: str
) -> tuple[tuple[Reference, ...], dict[tuple[Version, str], str]]:
    """Tell references that can be checked from cases that are void."""
    references: list[Reference] = []
    void: dict[tuple[Version, str], str] = {}
    for archive in archives:
        for case, reason in archive.void.items():
            if fnmatchcase(case, pattern):
                void[archive.release, case] = reason
        for case in archive.cases:
            if not fnmatchcase(case, pattern):
                continue
            reference = Reference(archive, case)
            model = reference.description["model"]
            with code_under_test(f"Asking whether {model} can be run"):
                defect = adapter.cannot_run(model)
            if defect is None:
                references.append(reference)
            else:
                void[archive.release, case] = defect
    return tuple(references), void


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text, prereleases=True)
    except InvalidSpecifier:
        raise CompatError(
            "The releases can't be told from --nlam-compat-release.",
            facts={
                "expected": "a version specifier (PEP 440), such as '>=0.5' "
                "or '==0.6.0'",
                "found": text,
            },
            remedy="Correct it, or leave it out for all releases.",
        ) from None


def _refuse_regeneration(config: pytest.Config) -> None:
    """Refuse what would pass without comparing, or rewrite a golden."""
    for option in ("regen_all", "force_regen"):
        if config.getoption(option, default=False):
            flag = "--" + option.replace("_", "-")
            raise CompatError(
                f"{flag} can't be used with references of neural-lam: they "
                "are frozen.",
                remedy=f"Leave {flag} out, or deselect the tests that use "
                "nlam_reference.",
            )
