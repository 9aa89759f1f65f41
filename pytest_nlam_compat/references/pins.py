"""Pinned references: people's own, in folders of their own.

::

    registry.txt              the name of each file with its sha256
    0.5.0-production.zip      an archive as that of a release, of one case
    0.5.0-production.ckpt     its checkpoint, which is too large to be in there

A folder is only read here: it may be on a disk that nobody can write to.
"""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path

from packaging.version import InvalidVersion, Version
from torch import Tensor

from pytest_nlam_compat.checkpoints.known import KNOWN
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

REGISTRY = "registry.txt"
ARCHIVE, WEIGHTS = ".zip", ".ckpt"

_RESTORE = (
    "Restore the folder from where it was copied. A reference never changes: "
    "pin the checkpoint again, under another name, if it is another one."
)


class PinnedReference(Reference):
    """A reference whose checkpoint lies beside its archive."""

    def __init__(
        self, archive: ReleaseArchive, case: str, weights: Path
    ) -> None:
        super().__init__(archive, case)
        self.weights = weights

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        """Weights and persistent buffers, read from the checkpoint."""
        with read_checkpoint(self.weights) as checkpoint:
            return {
                str(name): ref.load().detach()
                for name, ref in checkpoint.data["state_dict"].items()
            }

    def write(self, into: Path) -> Path:
        """Write configuration and graph, with a link to the checkpoint."""
        super().write(into)
        link = into / "checkpoint.ckpt"
        try:
            link.symlink_to(self.weights.resolve())
        except OSError:  # Windows asks for a privilege
            shutil.copyfile(self.weights, link)
        return link


class PinFolder:
    """A folder of pinned references.

    Attributes
    ----------
    ids : list of str
        Of its references: release, and name given by the user.

    Raises
    ------
    CompatError
        It has no registry, or not the files that this lists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / REGISTRY).is_file():
            raise CompatError(
                "There are no pinned references in this folder.",
                facts={"folder": folder, "missing": REGISTRY},
                remedy="Pass what nlam-compat pin wrote: the folder to pytest, "
                "and one of its archives to verify.",
            )
        self._hashes = registry.read_files(folder / REGISTRY)
        self.ids = [
            name.removesuffix(ARCHIVE)
            for name in self._hashes
            if name.endswith(ARCHIVE)
        ]
        # One that nobody checks would look like a tested one.
        present = {path.name for path in folder.glob(f"*{ARCHIVE}")}
        if unlisted := sorted(present - self._hashes.keys()):
            raise CompatError(
                "The folder has archives that its registry doesn't list.",
                facts={"folder": folder, "not listed": ", ".join(unlisted)},
                remedy="Move them elsewhere. If nlam-compat pin was killed "
                "while it wrote them, delete them and pin again.",
            )

    def release_of(self, name: str) -> Version:
        """Return the release in an id; CompatError if it has none."""
        try:
            return Version(name.partition("-")[0])
        except InvalidVersion:
            raise CompatError(
                f"{name} is not the id of a pinned reference.",
                facts={
                    "listed in": self.folder / REGISTRY,
                    "expected": "a release and a name, such as "
                    "0.5.0-production",
                },
                remedy="Give the files back the names that nlam-compat pin "
                "gave them.",
            ) from None

    def open(self, name: str) -> PinnedReference:
        """Check the hashes of a reference by its id, and open it.

        Raises
        ------
        CompatError
            It is not listed, or a file is missing or changed.
        """
        if name not in self.ids:
            raise CompatError(
                f"{name} is not a pinned reference of this folder.",
                facts={
                    "folder": self.folder,
                    "listed": ", ".join(self.ids) or "none",
                },
                remedy="Pass one of the listed ones.",
            )
        files = [f"{name}{end}" for end in (ARCHIVE, WEIGHTS)]
        for file in files:
            self._refuse_changed(name, file)
        archive, weights = (self.folder / file for file in files)
        # neural-lam's own loader runs its pickle, and the folder may be from
        # somebody else.
        with read_checkpoint(weights) as checkpoint:
            unknown = [n.path for n in checkpoint.globals if n not in KNOWN]
        if unknown:
            raise CompatError(
                f"The checkpoint of the pinned reference {name} names classes "
                "that no checkpoint of neural-lam contains.",
                facts={"file": weights, "unknown": join_some(unknown)},
                remedy="Don't use it: nlam-compat pin never writes such a "
                "file.",
            )
        opened = ReleaseArchive(archive)
        (case,) = opened.cases
        return PinnedReference(opened, case, weights)

    def _refuse_changed(self, name: str, file: str) -> None:
        path, expected = self.folder / file, self._hashes.get(file)
        facts: dict[str, object] = {"file": path}
        try:
            found = registry.sha256_of(path)
            if found == expected:
                return
            what = "is not what was pinned"
            facts |= {"expected": f"sha256 {expected}"}
            facts |= {"found": f"sha256 {found}"}
        except OSError as error:
            what = f"has no {file}"
            facts |= {"cause": error.strerror}
        raise CompatError(
            f"The pinned reference {name} {what}.", facts=facts, remedy=_RESTORE
        )


def open_file(path: Path) -> PinnedReference:
    """Open the pinned reference whose archive or checkpoint this is.

    Raises
    ------
    CompatError
        It is none of a folder of pinned references, or the folder itself; see
        `PinFolder`.
    """
    if (path / REGISTRY).is_file():
        names = [f"{name}{ARCHIVE}" for name in PinFolder(path).ids]
        raise CompatError(
            "This is a folder of pinned references, and one of them is needed.",
            facts={"folder": path, "references in it": join_some(names)},
            remedy="Pass the archive of one of them.",
        )
    name = path.name.removesuffix(ARCHIVE).removesuffix(WEIGHTS)
    return PinFolder(path.parent).open(name)
