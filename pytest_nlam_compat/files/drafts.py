"""Writing a file or a folder whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.files.refusals import refusal

if sys.platform != "win32":
    import fcntl

_BUFFER = 1024 * 1024

#: The latest draft of this process for each target.
_OWN: dict[Path, tuple[int, int] | None] = {}


@contextlib.contextmanager
def draft(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Write a file beside its target, which becomes the target at the end.

    At any moment there is either what was at the target before, or all of the
    new file. Without `overwrite`, of several that write to one target all but
    the first are refused.
    """
    if not overwrite:
        refuse_existing(target)
    try:
        with reserved(target) as path:
            with path.open("wb", buffering=_BUFFER) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            if not overwrite:
                _place(path, target)
            else:
                if target.exists():
                    _copy_access(target, path)
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


@contextlib.contextmanager
def reserved(target: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Make a file or folder beside a target; remove what is left of it.

    As long as it is used it is locked, under whatever name: what a process
    leaves that is killed is removed by the next one with this target.
    """
    remove_abandoned(target)
    # A name may have 255 bytes, and a character up to four.
    name = f".{target.name[:50]}.{os.urandom(4).hex()}.part"
    path = target.with_name(name)
    missing = [each for each in path.parents if not each.exists()]
    if is_folder:
        path.mkdir(parents=True)
    else:
        path.touch(exist_ok=False)
    lock = _lock(path)
    _OWN[target] = identity(path)
    try:
        yield path
    finally:
        if not is_own(target):
            # Another file may get its number once it is removed.
            _OWN.pop(target, None)
        _remove(path)
        with contextlib.suppress(OSError):  # they are in use
            for each in missing:
                each.rmdir()
        if lock is not None:
            os.close(lock)


def is_own(target: Path) -> bool:
    """Tell whether this process has placed what is at a target."""
    own = _OWN.get(target)
    return own is not None and identity(target) == own


def identity(path: Path) -> tuple[int, int] | None:
    """Tell a file from another one that gets its name; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def unreserved(target: Path) -> Iterator[None]:
    """Wait until nobody has reserved what is at a target, and lock it."""
    lock = _lock(target, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def remove_abandoned(target: Path) -> None:
    """Remove what processes that were killed left of their drafts."""
    ours = re.compile(rf"\.{re.escape(target.name[:50])}\.[0-9a-f]{{8}}\.part")
    names: list[str] = []
    with contextlib.suppress(OSError):  # there is no such folder
        names = os.listdir(target.parent)
    for path in map(target.with_name, filter(ours.fullmatch, names)):
        lock = _lock(path)
        if lock is not None:
            _remove(path)
            os.close(lock)


def _lock(path: Path, *, wait: bool = False) -> int | None:
    """Lock a draft; None if it is locked, or nothing can be locked there."""
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(
                descriptor, fcntl.LOCK_EX | (not wait and fcntl.LOCK_NB)
            )
            return descriptor
        except OSError:
            os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            import shutil

            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _place(path: Path, target: Path) -> None:
    """Give a draft its name, unless something else has got it meanwhile."""
    try:
        os.link(path, target)
    except OSError:
        refuse_existing(target)
        # Not all file systems have links.
        path.replace(target)


def refuse_existing(target: Path) -> None:
    """Refuse to overwrite a file."""
    # A link to nothing would lead elsewhere.
    if os.path.lexists(target):
        remedy = "Choose another path for the output, or move the file."
        raise refusal(target, "exists already", remedy)


def _copy_access(old: Path, new: Path) -> None:
    status = old.stat()
    # Changing the group may clear bits of the mode.
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(new, -1, status.st_gid)
    new.chmod(stat.S_IMODE(status.st_mode))


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where a folder can do so."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
