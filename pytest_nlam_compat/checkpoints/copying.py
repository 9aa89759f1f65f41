"""Copying the records of one file into another, by several threads.

A kernel copies within one thread about as fast as ``cp`` does; on a RAM disk
or a fast SSD two threads take little more than half of the time.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.archive import Archive

Progress = Callable[[int, int], None]

#: More than these rarely help, and would take a shared machine for us alone.
_MOST_THREADS = 4

#: So much is worth a thread of its own.
_PER_THREAD = 32 * 1024 * 1024

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


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of bytes of a record, and where it goes."""

    archive: Archive
    record: str
    start: int
    size: int
    to: int


class Copies:
    """Runs of bytes that are to be copied into one file.

    Parameters
    ----------
    target : BinaryIO
        The file, unbuffered and open for writing.
    """

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._pieces: list[_Piece] = []
        self._whole = 0
        self._done = 0
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
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
        record = archive.records[name]
        # Asked once, here: it refuses a file that was closed.
        archive.fileno()
        for done in range(0, record.size, _PIECE):
            size = min(_PIECE, record.size - done)
            self._pieces.append(
                _Piece(archive, name, record.start + done, size, to + done)
            )
        self._whole += record.size

    def run(self, progress: Progress | None = None) -> None:
        """Copy all of them.

        Parameters
        ----------
        progress : callable, optional
            Told now and then how many bytes are copied, and of how many;
            always from the thread that calls this.

        Raises
        ------
        CompatError
            If a file is shorter than it was.
        OSError
            If the target does not take it.
        """
        # From the end, as a list gives its items away.
        self._pieces.reverse()
        # Without positions of their own, threads would move each other's.
        most = _MOST_THREADS if hasattr(os, "pwrite") else 1
        count = min(most, _cores(), 1 + self._whole // _PER_THREAD)
        threads = [
            threading.Thread(target=self._work) for _ in range(count - 1)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work(progress)
        except BaseException as error:
            # An interrupt; the others stop at their next piece.
            self._errors.append(error)
        finally:
            for thread in threads:
                thread.join()
        if self._errors:
            raise self._errors[0]
        if progress:
            progress(self._whole, self._whole)

    def _work(self, progress: Progress | None = None) -> None:
        try:
            while not self._errors:
                with self._lock:
                    if not self._pieces:
                        return
                    piece = self._pieces.pop()
                self._copy(piece)
                with self._lock:
                    self._done += piece.size
                if progress:
                    progress(self._done, self._whole)
        except (Exception, KeyboardInterrupt) as error:
            self._errors.append(error)

    def _copy(self, piece: _Piece) -> None:
        done = self._kernel_copy(piece) if self._by_kernel else 0
        while done < piece.size:
            wanted = min(_BLOCK, piece.size - done)
            block = piece.archive.read_at(piece.start + done, wanted)
            if not block:
                raise piece.archive.changed(piece.record)
            write_at(self._target, block, piece.to + done)
            done += len(block)

    def _kernel_copy(self, piece: _Piece) -> int:
        """Have the kernel copy; return how many bytes it did."""
        source = piece.archive.fileno()
        done = 0
        while done < piece.size:
            try:
                count = os.copy_file_range(
                    source,
                    self._target.fileno(),
                    piece.size - done,
                    piece.start + done,
                    piece.to + done,
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
