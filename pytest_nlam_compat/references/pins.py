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

from pytest_nlam_compat.checkpoints.known import owner
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

REGISTRY = "registry.txt"
ARCHIVE, WEIGHTS = ".zip", ".ckpt"
VARIABLE = "NLAM_COMPAT_REFERENCES"

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
                remedy="Pass a folder that nlam-compat pin wrote.",
            )
        self._hashes = registry.read_files(folder / REGISTRY)
        listed = [n for n in self._hashes if n.endswith(ARCHIVE)]
        self._files = {
            name.removesuffix(ARCHIVE): [
                name,
                name.removesuffix(ARCHIVE) + WEIGHTS,
            ]
            for name in listed
        }
        # One that nobody checks would look like a tested one.
        present = {path.name for path in folder.glob(f"*{ARCHIVE}")}
        if unlisted := sorted(present - {*listed}):
            raise CompatError(
                "The folder has archives that its registry doesn't list.",
                facts={"folder": folder, "not listed": ", ".join(unlisted)},
                remedy="Move them elsewhere. If nlam-compat pin was killed "
                "while it wrote them, delete them and pin again.",
            )

    @property
    def ids(self) -> list[str]:
        """The ids of its references: release, and name given by the user."""
        return list(self._files)

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
        if name not in self._files:
            raise CompatError(
                f"{name} is not a pinned reference of this folder.",
                facts={
                    "folder": self.folder,
                    "listed": ", ".join(self.ids) or "none",
                },
                remedy="Pass one of the listed ones.",
            )
        for file in self._files[name]:
            self._refuse_changed(name, file)
        archive, weights = (self.folder / each for each in self._files[name])
        # neural-lam's own loader runs its pickle, and the folder may be from
        # somebody else.
        with read_checkpoint(weights) as checkpoint:
            unknown = [n.path for n in checkpoint.globals if not owner(n)]
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
        except OSError as error:
            what = "has no weights" if file.endswith(WEIGHTS) else "is missing"
            raise CompatError(
                f"The pinned reference {name} {what}: {file} can't be read.",
                facts=facts | {"cause": error.strerror},
                remedy=_RESTORE,
            ) from None
        if found != expected:
            raise CompatError(
                f"The pinned reference {name} is not what was pinned.",
                facts=facts
                | {
                    "expected": f"sha256 {expected}",
                    "found": f"sha256 {found}",
                },
                remedy=_RESTORE,
            )


def open_file(path: Path) -> PinnedReference:
    """Open the pinned reference whose archive or checkpoint this is.

    Raises
    ------
    CompatError
        It is no file of a folder of pinned references; see `PinFolder`.
    """
    if not path.exists():
        raise CompatError(
            "There is no such file.",
            facts={"file": path},
            remedy="Pass an archive that nlam-compat pin wrote, such as "
            "pinned/0.5.0-production.zip.",
        )
    name = path.name.removesuffix(ARCHIVE).removesuffix(WEIGHTS)
    return PinFolder(path.parent).open(name)
