"""Where a changed checkpoint goes: beside the old one, or in its place.

This imports little, so that a large file can be copied while the rest is
imported.
"""

from __future__ import annotations

import os
from pathlib import Path

from pytest_nlam_compat.checkpoints import head_start
from pytest_nlam_compat.errors import CompatError

# As in typing, whose import would take as long as copying 5 MB does.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from pytest_nlam_compat.checkpoints.copying import Progress
    from pytest_nlam_compat.checkpoints.reader import Checkpoint

UPGRADED = "upgraded_"
BACKUP = ".bak"


class Output:
    """Where a changed checkpoint goes; to be used in a with block.

    Parameters
    ----------
    file : Path
        The old file.
    path : Path, optional
        The new one; by default a prefix and the name of the old one.
    prefix : str
    in_place : bool
        Whether the new file takes the place of the old one, which then gets
        the name of a backup.

    Attributes
    ----------
    file, path : Path
    in_place : bool

    Raises
    ------
    CompatError
        If the new file is the old one.
    """

    def __init__(
        self,
        file: Path,
        path: Path | None,
        prefix: str,
        in_place: bool = False,
    ) -> None:
        if path is not None and (in_place or _same(file, path)):
            raise CompatError(
                "The output is the checkpoint itself.",
                facts={"file": file, "output": path},
                remedy="Give another -o, or --in-place alone, which keeps a "
                ".bak.",
            )
        self.file = file
        self.path = path or file.with_name(f"{prefix}{file.name}")
        if in_place:
            self.path = file
        self.in_place = in_place
        self._before = _identity(self._real)
        self._head_start: head_start.HeadStart | None = None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        if self._head_start is not None:
            self._head_start.close()

    def begin(self) -> None:
        """Begin to copy the old file, for as long as all else takes.

        What cannot be done comes up again in `write`, if it gets so far.
        """
        if self.in_place or not self.path.exists():
            self._head_start = head_start.begin(self.file, self._real)

    @property
    def _real(self) -> Path:
        """The new file, through a link, as Lightning makes for its last."""
        return Path(os.path.realpath(self.path))

    @property
    def placed(self) -> bool:
        """Whether the new file has its place by now."""
        return _identity(self._real) != self._before

    def refuse_taken(self) -> None:
        """Refuse an output that would be overwritten, before any work."""
        if self.path.exists() and not self.in_place:
            raise CompatError(
                f"{self.path.name} is there already.",
                facts={"file": self.path},
                remedy="Give another -o, or move it away.",
            )

    def write(
        self, checkpoint: Checkpoint, progress: Progress | None
    ) -> Path | None:
        """Write a checkpoint, whole or not at all.

        Parameters
        ----------
        checkpoint : Checkpoint
            Open.
        progress : callable, optional
            Told how many bytes are written, and of how many.

        Returns
        -------
        Path or None
            The old file's new name, if it has one.

        Raises
        ------
        CompatError
            If it can't be written; all is as it was.
        """
        from pytest_nlam_compat.checkpoints.weights import (
            Weights,
            write_weights,
        )
        from pytest_nlam_compat.checkpoints.writer import write_checkpoint

        real = self._real
        backup = real.with_name(f"{real.name}{BACKUP}")
        made = self.in_place and _back_up(real, backup)
        try:
            if isinstance(checkpoint, Weights):
                write_weights(
                    checkpoint,
                    real,
                    overwrite=self.in_place,
                    progress=progress,
                )
            else:
                write_checkpoint(
                    checkpoint,
                    real,
                    overwrite=self.in_place,
                    progress=progress,
                    head_start=self._head_start,
                )
        except BaseException:
            # Ctrl-C can come when the new file has its place: then the
            # backup is all there is of the old one.
            if made and not self.placed:
                backup.unlink()
            raise
        return backup if self.in_place else None


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell a file from another that gets its name; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _same(file: Path, output: Path) -> bool:
    try:
        return output.samefile(file)
    except OSError:
        return False


def _back_up(file: Path, backup: Path) -> bool:
    """Give the old file a second name; tell whether it had none before."""
    if _same(file, backup):
        # Of an attempt that was cut short.
        return False
    if backup.exists():
        raise CompatError(
            f"{backup.name} is there already, from another time.",
            facts={"file": backup},
            remedy="Move it away.",
        )
    try:
        os.link(file, backup)
    except OSError as error:
        raise CompatError(
            "The backup can't be made.",
            facts={"file": backup, "cause": error.strerror or error},
            remedy="Give an -o on another disk instead of --in-place.",
        ) from error
    return True
