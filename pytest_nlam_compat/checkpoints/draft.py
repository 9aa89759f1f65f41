"""A file that is being written, and takes its place when it is whole."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.refusals import printable, refusal
from pytest_nlam_compat.errors import CompatError


@contextlib.contextmanager
def draft(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Write a file beside its target, which becomes the target at the end.

    At any moment there is either what was at the target before, or all of the
    new file.
    """
    if not overwrite:
        _refuse_existing(target)
    path = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        with path.open("x+b", buffering=0) as stream:
            yield stream
            os.fsync(stream.fileno())
        if not overwrite:
            _refuse_existing(target)
        elif target.exists():
            path.chmod(stat.S_IMODE(target.stat().st_mode))
        path.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise CompatError(
            f"{printable(target.name)} can't be written.",
            facts={
                "file": printable(str(target), 1000),
                "cause": error.strerror or error,
            },
            remedy="Nothing was changed. Make room or fix the permissions of "
            "its folder, and try again.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise refusal(
            target,
            "exists already",
            "Choose another path, or allow it to be overwritten.",
        )


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where a folder can do so.

    Where it can't, the file has its place all the same.
    """
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
