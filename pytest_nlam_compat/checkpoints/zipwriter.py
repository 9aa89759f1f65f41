"""Writes the container of torch.save, byte for byte as torch does.

The same layout, with the same padding, matters beyond taste: torch computes
the places of records from it without looking, when it loads a file by mmap.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.zipformat import (
    HAS_DESCRIPTOR,
    UTF8_NAME,
    Entry,
    end_of_archive,
    pad,
)

Progress = Callable[[int, int], None]

#: Records begin at multiples of this.
ALIGNMENT = 64

#: From this size on, the kernel copies a record; a smaller one goes into one
#: write together with the headers around it.
LARGE_RECORD = 256 * 1024

_PENDING = 1024 * 1024
_PIECE = 64 * 1024 * 1024
_BLOCK = 1024 * 1024

# The errors of file systems between which, or on which, the kernel does not
# copy.
_NO_KERNEL_COPY = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
)


class ZipWriter:
    """Writes an archive to a file, record after record."""

    def __init__(self, stream: BinaryIO, folder: str) -> None:
        self._stream = stream
        self._folder = folder
        self._pending = bytearray()
        self._at = 0
        self._directory = bytearray()
        self._count = 0

    def add(self, name: str, content: bytes | memoryview) -> None:
        """Write a record from memory; its name is without the folder."""
        descriptor = self._begin(name, len(content), zlib.crc32(content))
        self._write(content)
        self._write(descriptor)

    def copy(
        self,
        name: str,
        archive: Archive,
        source: str,
        progress: Callable[[int], None],
    ) -> None:
        """Write a record that is the same as one of another archive.

        Its checksum is that of the other: a damaged record stays one that
        can be seen to be damaged.
        """
        record = archive.records[source]
        descriptor = self._begin(name, record.size, record.crc)
        if record.size < LARGE_RECORD:
            content = archive.read_at(record.start, record.size)
            if len(content) < record.size:
                raise archive.changed()
            self._write(content)
            progress(record.size)
        else:
            self._flush()
            copy_bytes(
                *(archive, record.start, record.size), self._stream, progress
            )
            self._at += record.size
        self._write(descriptor)

    def finish(self) -> None:
        """Write the list of records; nothing can be added after it."""
        directory = bytes(self._directory)
        end = end_of_archive(self._count, len(directory), self._at)
        self._write(directory + end)
        self._flush()

    def checksum(self) -> int:
        """Return a checksum of all names, sizes and checksums so far."""
        return zlib.crc32(self._directory)

    def _begin(self, name: str, size: int, crc: int) -> bytes:
        """Write what is before a record; return what belongs behind it."""
        # Nothing follows an empty record, not even a descriptor.
        flags = UTF8_NAME | (HAS_DESCRIPTOR if size else 0)
        path = f"{self._folder}/{name}".encode()
        entry = Entry(path, flags, crc, size, self._at)
        unpadded = self._at + len(entry.local(pad(4)))
        self._write(entry.local(pad(4 + -unpadded % ALIGNMENT)))
        self._directory += entry.central()
        self._count += 1
        return entry.descriptor()

    def _write(self, content: bytes | bytearray | memoryview) -> None:
        self._at += len(content)
        if len(content) < LARGE_RECORD:
            self._pending += content
            if len(self._pending) < _PENDING:
                return
            content = b""
        self._flush()
        write_all(self._stream, content)

    def _flush(self) -> None:
        write_all(self._stream, self._pending)
        self._pending = bytearray()


def copy_bytes(
    archive: Archive,
    start: int,
    size: int,
    target: BinaryIO,
    progress: Callable[[int], None],
) -> None:
    """Copy bytes of an archive to the end of another file.

    By the kernel, if it can: it then takes as long as ``cp``.
    """
    by_kernel = hasattr(os, "copy_file_range")
    while size:
        count = 0
        if by_kernel:
            count = _copy_by_kernel(archive, start, size, target)
            by_kernel = count > 0
        if not count:
            block = archive.read_at(start, min(size, _BLOCK))
            if not block:
                raise archive.changed()
            write_all(target, block)
            count = len(block)
        start, size = start + count, size - count
        progress(count)


def _copy_by_kernel(
    archive: Archive, start: int, size: int, target: BinaryIO
) -> int:
    """Have the kernel copy; return how many bytes it did, 0 if it can't."""
    try:
        return os.copy_file_range(
            archive.fileno(), target.fileno(), min(size, _PIECE), start
        )
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return 0
        raise


def write_all(
    target: BinaryIO, content: bytes | bytearray | memoryview
) -> None:
    """Write all of the content to an unbuffered file."""
    left = memoryview(content)
    while left:
        left = left[target.write(left) :]
