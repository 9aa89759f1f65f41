"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.files.refusals import refusal

_BUFFER = 1024 * 1024


@contextlib.contextmanager
def draft(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Write a file beside its target, which becomes the target at the end.

    At any moment there is either what was at the target before, or all of the
    new file.
    """
    if not overwrite:
        _refuse_existing(target)
    # A name may have 255 bytes, and a character up to four.
    start = target.name[:50]
    path = target.with_name(f".{start}.{os.urandom(4).hex()}.part")
    try:
        with path.open("xb", buffering=_BUFFER) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if not overwrite:
            _refuse_existing(target)
        elif target.exists():
            status = target.stat()
            # Changing the group may clear bits of the mode.
            if hasattr(os, "chown"):
                with contextlib.suppress(PermissionError):
                    os.chown(path, -1, status.st_gid)
            path.chmod(stat.S_IMODE(status.st_mode))
        path.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise refusal(
            target,
            "can't be written",
            "Nothing was changed. Make room or fix the permissions of its "
            "folder, and try again.",
            cause=error.strerror or error,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        remedy = "Choose another path, or allow it to be overwritten."
        raise refusal(target, "exists already", remedy)


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where a folder can do so."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
