"""Newer references that show the cause where an older one holds no trace."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.selection import Selection
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


class NewerReferences:
    """Opens the newest reference of the same case, once.

    The references of the selection come first, then those of its store.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._opened: dict[str, ReferenceUnderTest | None] = {}

    def __call__(
        self, subject: ReferenceUnderTest
    ) -> ReferenceUnderTest | None:
        """Return the newest reference of a case, None if there is none."""
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
        return max(found, key=lambda r: r.release, default=None)

    def _stored(self, case: str) -> Reference | None:
        store, adapter = self._selection.store, self._selection.adapter
        for release in sorted(store.releases, reverse=True):
            if release > adapter.current.release:
                continue
            try:
                archive = ReleaseArchive(store.archive(release))
            # Offline, for example: the failure itself must still be shown.
            except CompatError:
                continue
            if case in archive.cases:
                reference = Reference(archive, case)
                defect = adapter.cannot_run(reference.description["model"])
                if defect is None and reference.trace.calls:
                    return reference
        return None
