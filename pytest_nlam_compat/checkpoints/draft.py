"""A file that is being written, and takes its place when it is whole."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from pytest_nlam_compat.checkpoints.refusals import printable, refusal
from pytest_nlam_compat.errors import CompatError

# As in typing, whose import would take as long as copying 5 MB does.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import BinaryIO


class Draft:
    """A file beside its target, which becomes the target at the end.

    At any moment there is either what was at the target before, or all of the
    new file.

    Parameters
    ----------
    target : Path
        What it is to become; no link.

    Attributes
    ----------
    target : Path
    stream : BinaryIO
        The file: empty, unbuffered and open for writing.

    Raises
    ------
    OSError
        If it can't be made there.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._path = target.with_name(
            f".{target.name}.{os.urandom(4).hex()}.part"
        )
        self.stream: BinaryIO = self._path.open("x+b", buffering=0)

    def place(self, overwrite: bool) -> None:
        """Give it the name of the target.

        Parameters
        ----------
        overwrite : bool
            Whether there may be a file already, which is then replaced.

        Raises
        ------
        CompatError
            If there is a file that may not be replaced.
        OSError
            If the disk does not take it.
        """
        os.fsync(self.stream.fileno())
        self.stream.close()
        if not overwrite:
            refuse_existing(self.target)
        elif self.target.exists():
            self._path.chmod(stat.S_IMODE(self.target.stat().st_mode))
        self._path.replace(self.target)
        _sync_folder(self.target.parent)

    def close(self) -> None:
        """Close it, and remove it where it did not become the target."""
        self.stream.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def refuse_existing(target: Path) -> None:
    """Refuse a target that is there already."""
    if target.exists():
        raise refusal(
            target,
            "is there already",
            "Give another path, or say that it may be overwritten.",
        )


def unwritable(target: Path, error: OSError) -> CompatError:
    """Make the error for a target that the disk does not take."""
    return CompatError(
        f"{printable(target.name)} can't be written.",
        facts={
            "file": printable(str(target), 1000),
            "cause": error.strerror or error,
        },
        remedy="Nothing was changed. Make room or mend the permissions of "
        "its folder, and try again.",
    )


def _sync_folder(folder: Path) -> None:
    """Make a new name last through a power cut, where a folder can do so.

    Where it can't, the file has its place all the same.
    """
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
