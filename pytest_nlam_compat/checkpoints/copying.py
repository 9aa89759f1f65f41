"""Copying the records of one file into another.

By the kernel where it can, in one thread: a file system lets one at a time
write to a file, and a second only waits for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.head_start import SHIFT, HeadStart
from pytest_nlam_compat.checkpoints.zipformat import Record

Progress = Callable[[int, int], None]

_PIECE = 8 * 1024 * 1024
_BLOCK = 1024 * 1024

# The errors of file systems between which, or on which, the kernel does not
# copy.
_NO_KERNEL_COPY = frozenset(
    {
        errno.EXDEV,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EINVAL,
    }
)


def write_at(
    stream: BinaryIO, content: bytes | bytearray | memoryview, at: int
) -> None:
    """Write all of the content to a place of an unbuffered file."""
    left = memoryview(content)
    while left:
        if hasattr(os, "pwrite"):
            written = os.pwrite(stream.fileno(), left, at)
        else:
            stream.seek(at)
            written = stream.write(left)
        left = left[written:]
        at += written


@dataclass(frozen=True, slots=True)
class _Copy:
    """A record, and where its first byte goes."""

    archive: Archive
    name: str
    to: int

    @property
    def record(self) -> Record:
        return self.archive.records[self.name]


class Copies:
    """Records that are to be copied into one file.

    Parameters
    ----------
    target : BinaryIO
        The file, unbuffered and open for writing.
    """

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._copies: list[_Copy] = []
        self._by_kernel = hasattr(os, "copy_file_range")

    def add(self, archive: Archive, name: str, to: int) -> None:
        """Note a record to be copied.

        Parameters
        ----------
        archive : Archive
            Open.
        name : str
            Of the record there.
        to : int
            Where its first byte goes.
        """
        # Asked once, here: it refuses a file that was closed.
        archive.fileno()
        self._copies.append(_Copy(archive, name, to))

    def end_of(self, head_start: HeadStart) -> int:
        """Tell where the last record ends that is copied to its place.

        Parameters
        ----------
        head_start : HeadStart
            What puts all at `SHIFT`, once it gets there.

        Returns
        -------
        int
            In the file that it copies; 0 if there is no such record.
        """
        return max(
            (
                copy.record.start + copy.record.size
                for copy in self._copies
                if _fits(copy, head_start)
            ),
            default=0,
        )

    def run(
        self,
        head_start: HeadStart | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Copy all of them.

        Parameters
        ----------
        head_start : HeadStart, optional
            What has been copied already; it has stopped.
        progress : callable, optional
            Told now and then how many bytes are copied, and of how many.

        Raises
        ------
        CompatError
            If a file is shorter than it was.
        OSError
            If the target does not take it.
        """
        begun = [_already(copy, head_start) for copy in self._copies]
        done, whole = 0, sum(copy.record.size for copy in self._copies)
        for copy, at in zip(self._copies, begun, strict=True):
            done += at
            while at < copy.record.size:
                size = min(_PIECE, copy.record.size - at)
                self._copy(copy, at, size)
                at += size
                done += size
                if progress:
                    progress(done, whole)

    def _copy(self, copy: _Copy, at: int, size: int) -> None:
        start, to, end = copy.record.start + at, copy.to + at, at + size
        if self._by_kernel:
            at += self._kernel_copy(copy.archive.fileno(), start, size, to)
        while at < end:
            block = copy.archive.read_at(
                copy.record.start + at, min(_BLOCK, end - at)
            )
            if not block:
                raise copy.archive.changed(copy.name)
            write_at(self._target, block, copy.to + at)
            at += len(block)

    def _kernel_copy(self, source: int, start: int, size: int, to: int) -> int:
        """Have the kernel copy; return how many bytes it did."""
        done = 0
        while done < size:
            try:
                count = os.copy_file_range(
                    source,
                    self._target.fileno(),
                    size - done,
                    start + done,
                    to + done,
                )
            except OSError as error:
                if error.errno in _NO_KERNEL_COPY:
                    self._by_kernel = False
                    break
                raise
            if count == 0:
                break
            done += count
        return done


def _already(copy: _Copy, head_start: HeadStart | None) -> int:
    """Tell how much of a record is at its place already."""
    if head_start is None or not _fits(copy, head_start):
        return 0
    return min(max(head_start.done - copy.record.start, 0), copy.record.size)


def _fits(copy: _Copy, head_start: HeadStart) -> bool:
    return copy.to == copy.record.start + SHIFT and head_start.is_of(
        copy.archive.fileno()
    )
