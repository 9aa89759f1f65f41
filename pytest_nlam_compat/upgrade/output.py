"""Write a changed checkpoint beside the old one, or in its place."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.drafts import (
    draft,
    identity,
    is_own,
    refuse_existing,
    remove_abandoned,
)
from pytest_nlam_compat.upgrade.weights import Weights, write_weights

_BLOCK = 1024 * 1024
UPGRADED = "upgraded_"
BACKUP = ".bak"


class OutputFile:
    """The file that a changed checkpoint is written to.

    By default it is in the folder of the old `file`, with a `prefix` to its
    name. In place, the old file is kept as a backup. A `path` that is that of
    the old file is refused with a CompatError.
    """

    def __init__(
        self, file: Path, path: Path | None, prefix: str, in_place: bool = False
    ) -> None:
        if path is not None and _same(file, path):
            raise CompatError(
                "The output is the checkpoint itself.",
                facts={"file": file, "output": path},
                remedy="Choose another -o, or use --in-place without -o, which "
                "keeps a backup.",
            )
        self.file = file
        self.is_named = path is not None
        self.path = path or file.with_name(f"{prefix}{file.name}")
        if in_place:
            self.path = file
        self.in_place = in_place
        remove_abandoned(self._real)

    @property
    def _real(self) -> Path:
        """In place, what is behind a link, such as Lightning's last.ckpt."""
        return Path(os.path.realpath(self.path)) if self.in_place else self.path

    @property
    def placed(self) -> bool:
        """Whether this process has given the new file its final name."""
        return is_own(self._real)

    def refuse_existing(self) -> None:
        """Refuse to overwrite a file, before any work."""
        if not self.in_place:
            refuse_existing(self.path)

    def write(
        self,
        checkpoint: Checkpoint,
        *,
        keep_device: bool = True,
        is_changed: bool = True,
    ) -> Path | None:
        """Write an open checkpoint, or copy it, whole or not at all.

        Returns the backup, if the old file was replaced. After a CompatError
        nothing is changed.
        """
        real = self._real
        backup = real.with_name(f"{real.name}{BACKUP}")
        made = self.in_place and _back_up(real, backup)
        try:
            if not is_changed:
                copy_checkpoint(checkpoint.archive, real)
            elif isinstance(checkpoint, Weights):
                write_weights(checkpoint, real, overwrite=self.in_place)
            else:
                write_checkpoint(
                    checkpoint.data,
                    real,
                    overwrite=self.in_place,
                    keep_device=keep_device,
                )
        except BaseException:
            # After Ctrl-C the new file may have its name already: then the
            # backup is the only copy of the old one.
            if made and _same(real, backup):
                backup.unlink()
            raise
        return backup if self.in_place else None


def copy_checkpoint(archive: Archive, path: Path) -> None:
    """Copy an open checkpoint byte for byte, whole or not at all.

    From the open file: another one may have its name by now.
    """
    with draft(path, overwrite=False) as stream:
        while block := archive.read_at(stream.tell(), _BLOCK):
            stream.write(block)
        archive.refuse_changed()


def _same(file: Path, other: Path) -> bool:
    return identity(file) is not None and identity(file) == identity(other)


def _back_up(file: Path, backup: Path) -> bool:
    """Give the old file a second name; return whether it had none before."""
    if _same(file, backup):
        # From an upgrade that was killed.
        return False
    if backup.exists():
        raise CompatError(
            f"The backup {backup.name} exists already.",
            facts={"file": backup},
            remedy="Move it, so that it isn't overwritten.",
        )
    try:
        os.link(file, backup)
    except OSError as error:
        raise CompatError(
            "The backup can't be made.",
            facts={"file": backup, "cause": error.strerror or error},
            remedy="Use -o with a file on another disk instead of --in-place.",
        ) from error
    return True
