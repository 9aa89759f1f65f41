"""References of the store besides those that were selected.

Newer ones show the cause where an older one holds no trace, and others prove a
step on models of other widths.
"""

from __future__ import annotations

import importlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.adapters.probe import command_line_arguments
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

if TYPE_CHECKING:
    from pytest_nlam_compat.adapters.adapter import Adapter
    from pytest_nlam_compat.checks.selection import Selection
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def loadable(
    archive: ReleaseArchive, adapter: Adapter, pattern: str
) -> list[Reference]:
    """Return references of a newer release that the current code can run.

    Its own loader raises no error, and what a case is made to show is in its
    command line: another value than that of the other cases, for an argument
    that the code does not have, says that it comes from the future.
    """
    from pytest_nlam_compat.checks.failures import silence
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    known = command_line_arguments(
        importlib.import_module("neural_lam.train_model")
    )
    found: dict[Reference, dict[str, str]] = {}
    loaded = []
    for case in archive.cases:
        reference = Reference(archive, case)
        with tempfile.TemporaryDirectory() as folder:
            subject = ReferenceUnderTest(
                reference, adapter, Path(folder), torch.device("cpu")
            )
            args = subject.raw.hyper_parameters.get("args")
            found[reference] = {
                name: repr(value)
                for name, value in getattr(args, "state", {}).items()
                if f"--{name}" not in known
            }
            if fnmatchcase(case, pattern):
                with suppress(CompatError), silence():
                    subject.native_model(torch.float64)
                    loaded.append(reference)
    usual = {
        name: Counter(
            args[name] for args in found.values() if name in args
        ).most_common(1)[0][0]
        for name in set().union(*found.values())
    }
    return [
        reference
        for reference in loaded
        if found[reference].items() <= usual.items()
    ]


class NewerReferences:
    """Opens the next reference of the same case that holds a trace, once.

    The oldest of them: what concerns an early file concerns it the likeliest.

    The references of the selection come first, then those of its store.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._opened: dict[str, ReferenceUnderTest | None] = {}

    def __call__(
        self, subject: ReferenceUnderTest
    ) -> ReferenceUnderTest | None:
        """Return the next reference of a case, None if there is none."""
        case = subject.reference.case
        if case not in self._opened:
            reference = self._selected(case) or self._stored(case)
            self._opened[case] = None
            if reference is not None:
                folder = Path(self._folder.name) / case
                folder.mkdir()
                subject = self._selection.subject(reference, folder)
                self._opened[case] = subject
        return self._opened[case]

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="nlam-compat-")

    def _selected(self, case: str) -> Reference | None:
        found = [
            reference
            for reference in self._selection.references
            if reference.case == case and reference.trace.calls
        ]
        return min(found, key=lambda r: r.release, default=None)

    def _stored(self, case: str) -> Reference | None:
        for archive in self._archives():
            if case in archive.cases:
                reference = Reference(archive, case)
                model = reference.description["model"]
                defect = self._selection.adapter.cannot_run(model)
                if defect is None and reference.trace.calls:
                    return reference
        return None

    def others(
        self, subject: ReferenceUnderTest
    ) -> Iterator[ReferenceUnderTest]:
        """Yield the references that were not selected, the oldest first.

        Those of the model of `subject` come before all others.
        """
        selected = {r.id for r in self._selection.references}
        model = subject.reference.description["model"]
        found: list[tuple[bool, Reference]] = []
        for archive in self._archives():
            for case in archive.cases:
                reference = Reference(archive, case)
                of = reference.description["model"]
                if reference.id not in selected and (
                    self._selection.adapter.cannot_run(of) is None
                ):
                    found.append((of != model, reference))
        for _, reference in sorted(found, key=lambda each: each[0]):
            folder = Path(self._folder.name) / f"other-{reference.id}"
            folder.mkdir(exist_ok=True)
            yield self._selection.subject(reference, folder)

    def _archives(self) -> Iterator[ReleaseArchive]:
        """Open what the store has, the oldest release first."""
        store = self._selection.store
        for release in sorted(store.releases):
            if release > self._selection.adapter.current.release:
                continue
            # Offline, for example: the failure itself must still be shown.
            with suppress(CompatError):
                yield store.open(release)
