"""Reference archives that are used where they lie, and never written."""

from __future__ import annotations

from pathlib import Path

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references.registry import archive_name
from pytest_nlam_compat.references.store import (
    Obtained,
    Store,
    hash_if_there,
)


class FolderStore(Store):
    """The archives of a folder with a registry, above all of a checkout.

    Parameters
    ----------
    folder : Path
        The folder with ``registry.txt`` and the archives.
    description : str
        The folder in words, for a report's header.

    Raises
    ------
    CompatError
        If the registry can't be read, or if the folder doesn't hold exactly the
        archives that the registry lists.
    """

    def __init__(self, folder: Path, description: str) -> None:
        super().__init__(folder / "registry.txt")
        self._folder = folder
        self._description = description
        self._refuse_strays()

    @property
    def description(self) -> str:
        """Where the archives are, for a report's header."""
        return self._description

    def _refuse_strays(self) -> None:
        listed = {archive_name(release) for release in self.releases}
        present = {path.name for path in self._folder.glob("*.zip")}
        if missing := sorted(listed - present):
            raise CompatError(
                "The registry lists archives that are not there.",
                facts={"registry": self._listed, "missing": ", ".join(missing)},
                remedy="Restore them from git. A source distribution has no"
                " archives: use a checkout or an installed package.",
            )
        # An archive that nobody checks would look like a tested release.
        if unlisted := sorted(present - listed):
            raise CompatError(
                "There are archives that the registry doesn't list.",
                facts={
                    "registry": self._listed,
                    "not listed": ", ".join(unlisted),
                },
                remedy="Add a line for each to the registry, or move them"
                " away.",
            )

    def _provide(self, name: str, sha256: str, progress: bool) -> Obtained:
        path = self._folder / name
        found = hash_if_there(path)
        if found != sha256:
            raise CompatError(
                f"The archive {name} is not the one in the registry.",
                facts={
                    "file": path,
                    "expected": f"sha256 {sha256}",
                    "found": f"sha256 {found}" if found else "no file",
                },
                remedy="Restore it from git: a reference stays as it was"
                " recorded.",
            )
        return Obtained(path, "in place")
