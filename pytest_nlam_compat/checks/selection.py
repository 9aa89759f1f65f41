"""Which references are checked in this pytest run, against which code."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_nlam_compat.adapters.adapter import Adapter
from pytest_nlam_compat.adapters.probe import (
    CurrentCode,
    probe,
    raise_on_another,
    select_adapter,
)
from pytest_nlam_compat.checks.distribution import is_worker
from pytest_nlam_compat.checks.driving_once import drive_once
from pytest_nlam_compat.checks.failures import FailureExplainer
from pytest_nlam_compat.checks.header_and_summary import HeaderAndSummary
from pytest_nlam_compat.checks.native_expectations import (
    INI_KEY,
    NativeExpectations,
    native_expectations,
)
from pytest_nlam_compat.checks.newer_references import (
    NewerReferences,
    loadable,
)
from pytest_nlam_compat.checks.pytest_config import setup_of, with_config
from pytest_nlam_compat.checks.pytest_options import (
    locate_store,
    pinned_folders,
)
from pytest_nlam_compat.checks.recorded_results import AttachResults
from pytest_nlam_compat.checks.report_facts import facts_of
from pytest_nlam_compat.checks.run_results import run_of
from pytest_nlam_compat.checks.shards import Shard, ShardSelector, shard_of
from pytest_nlam_compat.errors import CompatError, clear_import_errors
from pytest_nlam_compat.migrations import Migration, Registry
from pytest_nlam_compat.migrations.lint import width_notices
from pytest_nlam_compat.migrations.repository import (
    RepositorySetup,
    checked,
    raise_on_duplicates,
    read_steps,
)
from pytest_nlam_compat.numerics.torch_settings import choose_device
from pytest_nlam_compat.references.pins import PinFolder, PinnedReference
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.registry import parse_specifier
from pytest_nlam_compat.references.store import Store
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class Selection:
    """The references of a run, and the code that they are checked against.

    Attributes
    ----------
    adapter : Adapter
    device : torch.device
    store : Store
        Where the archives are.
    references : tuple of Reference
        Those that are checked, by this run or by other shards. Of a release
        newer than the current code, by its own loader alone.
    native : NativeExpectations
        Which references the current code's own loader has to load.
    void : dict of (Version, str) to str
        Cases without a check, by release and name, with the reason.
    newer : tuple of Version
        Releases left out since the current code is older.
    notices : tuple of str
        What the store and the migrations have to say.
    migrations : tuple of Migration
        Those of the repository under test.
    setup : RepositorySetup
        Where that keeps them.
    driven : dict of str to ReferenceUnderTest
        By id, those whose models exist since the API was tried on them.
    shard : Shard or None
        The part of the references that this run checks; None for all.
    """

    adapter: Adapter
    device: torch.device
    store: Store
    references: tuple[Reference, ...]
    native: NativeExpectations = field(default_factory=NativeExpectations)
    void: dict[tuple[Version, str], str] = field(default_factory=dict)
    newer: tuple[Version, ...] = ()
    notices: tuple[str, ...] = ()
    migrations: tuple[Migration, ...] = ()
    setup: RepositorySetup = field(default_factory=RepositorySetup)
    driven: dict[str, ReferenceUnderTest] = field(default_factory=dict)
    shard: Shard | None = None

    def subject(self, reference: Reference, folder: Path) -> ReferenceUnderTest:
        """Return a reference in front of the current code."""
        if reference.id in self.driven:
            return self.driven.pop(reference.id)
        # It imports neural_lam, which only `probe` may find broken or absent.
        from pytest_nlam_compat.under_test.reference_under_test import (
            ReferenceUnderTest,
        )

        return ReferenceUnderTest(
            reference, self.adapter, folder, self.device, self.migrations
        )

    @property
    def checked(self) -> tuple[Reference, ...]:
        """Those that this run checks: all, or those of its shard."""
        if self.shard is None:
            return self.references
        names = self.shard.references
        return tuple(r for r in self.references if r.id in names)

    @property
    def migrated(self) -> tuple[Reference, ...]:
        """Those of releases up to the current code: all checks are for them."""
        current = self.adapter.current.release
        return tuple(r for r in self.references if r.release <= current)

    @property
    def newest(self) -> tuple[Reference, ...]:
        """Those of the newest of these releases."""
        newest = max((r.release for r in self.migrated), default=None)
        return tuple(r for r in self.migrated if r.release == newest)

    @cached_property
    def layout_changed(self) -> bool:
        """Whether the current code has left the layout of its release.

        Until then the migrations alone have to lead to that layout; then its
        own loader may do a part. True if no reference of that release is
        selected.
        """
        release = self.adapter.current.release
        newest = [
            r
            for r in self.references
            if r.release == release and not isinstance(r, PinnedReference)
        ]
        for reference in newest:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    layout = self.subject(reference, Path(folder)).layout()
                except CompatError:
                    return True
            if layout.keys() != reference.state_dict.keys():
                return True
        return not newest


_SELECTION = pytest.StashKey[Selection]()


def selection_of(config: pytest.Config) -> Selection:
    """Return the selection of a run; it is made the first time.

    Raises
    ------
    CompatError
        An option is impossible, or code or references are missing.
    """
    if _SELECTION not in config.stash:
        with clear_import_errors():
            # Fails if torch was not built for this numpy: once, and here.
            torch.empty(0).numpy()
            selection = config.stash[_SELECTION] = _select(config)
        plugins = config.pluginmanager
        if not is_worker(config):
            run = run_of(config)
            run.facts = facts_of(config, selection)
            plugins.register(HeaderAndSummary(run), "nlam-compat-summary")
        explainer = FailureExplainer(NewerReferences(selection))
        plugins.register(explainer, "nlam-compat-explainer")
        plugins.register(AttachResults(), "nlam-compat-results")
        if selection.shard is not None:
            selector = ShardSelector(selection.shard)
            plugins.register(selector, "nlam-compat-shard")
    return config.stash[_SELECTION]


def load_selection(options: Sequence[str]) -> Selection:
    """Select references as ``pytest --nlam-compat`` would do here.

    The options, those of pytest, come after those of its configuration file.

    Raises
    ------
    CompatError
        As for `selection_of`, or if pytest can't be configured here.
    """
    selection = with_config(options, selection_of)
    # Their files are gone with that configuration.
    selection.driven.clear()
    return selection


def _select(config: pytest.Config) -> Selection:
    wanted = parse_specifier(
        config.getoption("nlam_compat_release"), "--nlam-compat-release"
    )
    pattern = config.getoption("nlam_compat_case")
    device = choose_device(config.getoption("nlam_compat_device"))
    store = locate_store(config)
    current = probe()
    raise_on_another(current.path, [config.rootpath])
    native = native_expectations(
        store.native_routes, current.release, config.getini(INI_KEY)
    )
    adapter = _adapter(config, current)
    known = [r for r in store.releases if r <= current.release]
    archives = [store.open(release) for release in wanted.filter(known)]
    recorded = [Reference(a, case) for a in archives for case in a.cases]
    pinned, folders = _pinned(config, wanted, current.release)
    # What a release has pinned, its own loader has loaded.
    loaded = {r.id for r in pinned if r.release == native.release}
    native = replace(native, loads=native.loads | loaded)
    references, void = _sort([*recorded, *pinned], adapter, pattern)
    newer = [r for r in store.releases if r > current.release]
    ahead = [
        reference
        for release in wanted.filter(newer[-1:] if not current.released else ())
        for reference in loadable(store.open(release), adapter, pattern)
    ]
    native = replace(native, ahead={r.id: r.release for r in ahead})
    references += tuple(ahead)
    void |= {
        (archive.release, case): reason
        for archive in archives
        for case, reason in archive.void.items()
        if fnmatchcase(case, pattern)
    }
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
            remedy="Correct the options; without them, all are selected.",
        )
    ours = {reference.id for reference in recorded}
    if clash := sorted(ours & {reference.id for reference in pinned}):
        raise CompatError(
            "A pinned reference has the name of one of ours.",
            facts={"name": ", ".join(clash)},
            remedy="Pin it again under another --name.",
        )
    migrations = _repository_migrations(config, current.release)
    shard = config.getoption("nlam_compat_shard")
    selection = Selection(
        adapter=adapter,
        device=device,
        store=store,
        references=references,
        native=native,
        void=void,
        newer=tuple(newer[:-1] if ahead else newer),
        notices=(
            *store.notices,
            *native.notices,
            *width_notices(migrations),
            *(f"pinned references from {folder}" for folder in folders),
            *(
                f"{len(ahead)} references of {one.release}, newer than the "
                "current code: its own loader loads them, and alone is judged"
                for one in ahead[:1]
            ),
        ),
        migrations=migrations,
        setup=setup_of(config),
        shard=None if shard is None else shard_of(shard, references),
    )
    # Each worker of pytest-xdist tries its part of the API.
    worker = getattr(config, "workerinput", {})
    index, count = 0, 1
    if worker:
        index = int(worker["workerid"].removeprefix("gw"))
        count = worker["workercount"]
        # Their threads would wait for each other.
        torch.set_num_threads(1)
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    drive_once(selection, Path(folder.name), index, count)
    return selection


def _adapter(config: pytest.Config, current: CurrentCode) -> Adapter:
    """Return the adapter of the repository, or else one of ours."""
    with code_under_test("The hook pytest_nlam_compat_adapter"):
        adapter = config.hook.pytest_nlam_compat_adapter(current=current)
    with code_under_test("Importing what the checks need of neural_lam"):
        if adapter is None:
            adapter = select_adapter(current)
        # Here, so that it fails once rather than for each reference.
        importlib.import_module(
            "pytest_nlam_compat.under_test.reference_under_test"
        )
    if not isinstance(adapter, Adapter):
        raise CompatError(
            "The hook pytest_nlam_compat_adapter returned no adapter.",
            facts={
                "expected": "an instance of a subclass of "
                f"{Adapter.__module__}.Adapter, or None",
                "found": repr(adapter),
            },
            remedy="Correct the hook in the conftest.py that implements it.",
        )
    return adapter


def _sort(
    found: Iterable[Reference], adapter: Adapter, pattern: str
) -> tuple[tuple[Reference, ...], dict[tuple[Version, str], str]]:
    """Tell references that can be checked from cases that are void."""
    references: list[Reference] = []
    void: dict[tuple[Version, str], str] = {}
    for reference in found:
        if not fnmatchcase(reference.case, pattern):
            continue
        model = reference.description["model"]
        with code_under_test(f"Checking whether {model} can run"):
            defect = adapter.cannot_run(model)
        if defect is None:
            references.append(reference)
        else:
            void[reference.release, reference.case] = defect
    return tuple(references), void


def _pinned(
    config: pytest.Config, wanted: SpecifierSet, current: Version
) -> tuple[list[PinnedReference], list[str]]:
    """Open the pinned references of all folders, and name these.

    Raises
    ------
    CompatError
        A folder has none, one is not what was pinned, or two have one name.
    """
    folders = pinned_folders(config)
    found: dict[str, PinnedReference] = {}
    for folder in folders:
        opened = PinFolder(folder)
        for name in opened.ids:
            release = opened.release_of(name)
            if release > current or not wanted.contains(release):
                continue
            if name in found:
                raise CompatError(
                    f"Two folders have a pinned reference {name}.",
                    facts={
                        "folders": f"{found[name].weights.parent}, {folder}"
                    },
                    remedy="Leave one folder out, or pin one of the two again "
                    "under another name.",
                )
            found[name] = opened.open(name)
    return [*found.values()], [str(folder) for folder in folders]


def _repository_migrations(
    config: pytest.Config, release: Version
) -> tuple[Migration, ...]:
    """Collect the migrations of the ini key, then those of the hook.

    Raises
    ------
    CompatError
        They can't be read, are no migrations, or two have one id.
    """
    setup = setup_of(config)
    steps = read_steps(setup.source, setup.root) if setup.source else []
    hook = "The hook pytest_nlam_compat_migrations"
    with code_under_test(hook):
        for found in config.hook.pytest_nlam_compat_migrations():
            steps += checked(found, hook)
    raise_on_duplicates(steps, Registry(release).known)
    return tuple(steps)
