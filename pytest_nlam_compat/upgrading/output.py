"""Where a changed checkpoint goes: beside the old one, or in its place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError

BACKUP = ".bak"


@dataclass(frozen=True)
class Output:
    """Where a changed checkpoint goes.

    Attributes
    ----------
    path : Path
    in_place : bool
        Whether that is the old file, which then gets the name of a backup.
    """

    path: Path
    in_place: bool

    @classmethod
    def of(
        cls, file: Path, output: Path | None, prefix: str, in_place: bool
    ) -> Output:
        """Find it out from what the user gave.

        Parameters
        ----------
        file : Path
            The old file.
        output : Path, optional
        prefix : str
            To go before the file's name where there is no output.
        in_place : bool

        Raises
        ------
        CompatError
            If the output is the file, or there already.
        """
        if output is not None and (in_place or _same(file, output)):
            raise CompatError(
                "The output is the checkpoint itself.",
                facts={"file": file, "output": output},
                remedy="Give another -o, or --in-place alone, which keeps a "
                ".bak.",
            )
        if in_place:
            return cls(file, True)
        return cls(output or file.with_name(f"{prefix}{file.name}"), False)

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
        if not self.in_place:
            write_checkpoint(checkpoint, self.path, progress=progress)
            return None
        # Through a link, as those that Lightning makes for its last one.
        real = Path(os.path.realpath(self.path))
        backup = real.with_name(f"{real.name}{BACKUP}")
        made = _back_up(real, backup)
        try:
            write_checkpoint(
                checkpoint, real, overwrite=True, progress=progress
            )
        except BaseException:
            if made:
                backup.unlink()
            raise
        return backup


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
