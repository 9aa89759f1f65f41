"""Writes the container of torch.save, byte for byte as torch does.

The same layout, with the same padding, matters beyond taste: torch computes
the places of records from it without looking, when it loads a file by mmap.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.copying import Copies, Progress, write_at
from pytest_nlam_compat.checkpoints.head_start import HeadStart
from pytest_nlam_compat.checkpoints.zipformat import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DESCRIPTOR_SIGNATURE,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    EXTRA,
    HAS_DESCRIPTOR,
    IN_ZIP64,
    LOCAL,
    LOCAL_SIGNATURE,
    LOCATOR,
    LOCATOR_SIGNATURE,
    UTF8_NAME,
    ZIP64_EXTRA,
)

#: What is as large, or as far away, does not fit into 32 bits.
ZIP64_FROM = IN_ZIP64

#: Records begin at multiples of this.
ALIGNMENT = 64

_PAGE = 4096
_MOST_PADDING = 0xFFFF - 64

#: From this size on, a record is copied by the kernel; a smaller one goes into
#: one write together with the headers around it.
LARGE_RECORD = 256 * 1024
_PENDING = 1024 * 1024

# So much is kept in memory for a head start to go on; more is not worth it.
_MOST_HELD = 16 * 1024 * 1024

# What torch calls its padding, and the versions of the format: 4.5 has ZIP64.
_PADDING = int.from_bytes(b"FB", "little")
_MADE_BY, _NEEDED = 0x031E, 45


class ZipWriter:
    """Writes an archive to a file, record after record.

    Parameters
    ----------
    stream : BinaryIO
        The file: empty, unbuffered, and open for writing.
    folder : str
        The folder of all records.
    head_start : HeadStart, optional
        A copy that was begun in the file, and is stopped here.
    """

    def __init__(
        self,
        stream: BinaryIO,
        folder: str,
        head_start: HeadStart | None = None,
    ) -> None:
        self._stream = stream
        self._head_start = head_start
        self._copies = Copies(stream)
        self._folder = folder
        self._pending = bytearray()
        # What a head start could still write over, and where it goes.
        self._held: list[tuple[bytearray, int]] = []
        self._holds = head_start is not None
        self._at = 0
        # Up to where all is written, or noted to be copied.
        self._flushed = 0
        # How much of that is noted to be copied.
        self._copied = 0
        self._directory = bytearray()
        self._count = 0

    def add(self, name: str, content: bytes | memoryview) -> None:
        """Write a record from memory.

        Parameters
        ----------
        name : str
            Its name without the folder.
        content : bytes or memoryview
            Its bytes.
        """
        descriptor = self._begin(name, len(content), zlib.crc32(content))
        self._write(content)
        self._write(descriptor)

    def copy(
        self,
        name: str,
        archive: Archive,
        source: str,
        *,
        near: int | None = None,
    ) -> None:
        """Write a record that is the same as one of another archive.

        Its checksum is that of the other: a damaged record stays one that
        can be seen to be damaged.

        Parameters
        ----------
        name : str
            Its name here, without the folder.
        archive : Archive
            The other archive.
        source : str
            Its name there.
        near : int, optional
            Where its first byte is to go, if padding can bring it there; else
            it gets the same place in a memory page as that. With it all that
            follow do, as long as they are as large, and the kernel copies
            whole pages: a tenth faster.

        Raises
        ------
        CompatError
            If the other is closed, or became shorter. A large record is only
            copied in the end, by `finish`: the other is to stay open.
        """
        record = archive.records[source]
        descriptor = self._begin(name, record.size, record.crc, near)
        if record.size >= LARGE_RECORD:
            self._flush()
            self._copies.add(archive, source, self._at)
            self._at += record.size
            self._flushed = self._at
            self._copied += record.size
        else:
            for chunk in archive.chunks(source):
                self._write(chunk)
        self._write(descriptor)

    def has_room(self, size: int, before: int | None) -> bool:
        """Tell whether a record fits in front of a place of another one.

        Parameters
        ----------
        size : int
            Of the record.
        before : int, optional
            The place of the other's first byte. None: there is no other.
            There is room too if it has been passed already.
        """
        if before is None or before < self._at:
            return True
        # Two headers, with their padding, and a descriptor.
        around = 2 * (len(self._folder) + 2 * ALIGNMENT + LOCAL.size)
        return self._at + size + 2 * around <= before

    def checksum(self) -> int:
        """Return a checksum of all names, sizes and checksums so far."""
        return zlib.crc32(self._directory)

    def finish(self, progress: Progress | None = None) -> None:
        """Write the list of records; nothing can be added after it.

        Parameters
        ----------
        progress : callable, optional
            Told now and then how many bytes of large records are copied, and
            of how many.

        Raises
        ------
        CompatError
            If an archive that is copied from became shorter.
        """
        start, length = self._at, len(self._directory)
        end64 = start + length
        self._write(self._directory)
        counts = (0, 0, self._count, self._count, length, start)
        self._write(
            END64.pack(
                END64_SIGNATURE, END64.size - 12, _MADE_BY, _NEEDED, *counts
            )
        )
        self._write(LOCATOR.pack(LOCATOR_SIGNATURE, 0, end64, 1))
        limits = (0, 0, 0xFFFF, 0xFFFF, IN_ZIP64, IN_ZIP64)
        narrow = map(min, counts, (0, 0, *limits[2:]))
        self._write(END.pack(END_SIGNATURE, *narrow, 0))
        self._flush()
        if self._head_start and self._holds:
            self._stream.truncate(self._at)
            if end := self._copies.end_of(self._head_start):
                self._head_start.finish(end, progress)
        self._release()
        if self._head_start:
            # It may have got further than this file reaches.
            self._stream.truncate(self._at)
        self._copies.run(self._head_start, progress)

    def _begin(
        self, name: str, size: int, crc: int, near: int | None = None
    ) -> bytes:
        """Write what is before a record; return what is to be behind it."""
        path = f"{self._folder}/{name}".encode()
        large, far = size >= ZIP64_FROM, self._at >= ZIP64_FROM
        wide = (2 * struct.pack("<Q", size) if large else b"") + (
            struct.pack("<Q", self._at) if far else b""
        )
        if wide:
            wide = EXTRA.pack(ZIP64_EXTRA, len(wide)) + wide
        unpadded = self._at + LOCAL.size + len(path) + len(wide) + EXTRA.size
        gap = -unpadded % ALIGNMENT
        if near is not None and near % ALIGNMENT == 0:
            lead = near - unpadded
            gap = lead if 0 <= lead <= _MOST_PADDING else lead % _PAGE
        extra = wide + EXTRA.pack(_PADDING, gap) + b"Z" * gap
        # Nothing follows an empty record, not even a descriptor.
        flags = UTF8_NAME | (HAS_DESCRIPTOR if size else 0)
        in_directory = IN_ZIP64 if large else size
        self._directory += CENTRAL.pack(
            *(CENTRAL_SIGNATURE, 0, 0, flags, 0, 0, 0),
            *(crc, in_directory, in_directory, len(path), len(wide), 0),
            *(0, 0, 0, IN_ZIP64 if far else self._at),
        )
        self._directory += path + wide
        self._count += 1
        self._write(
            LOCAL.pack(
                *(LOCAL_SIGNATURE, 0, flags, 0, 0, 0),
                *(0, 0, 0, len(path), len(extra)),
            )
            + path
            + extra
        )
        if not size:
            return b""
        sizes = "<4sI2Q" if wide else "<4s3I"
        return struct.pack(sizes, DESCRIPTOR_SIGNATURE, crc, size, size)

    def _write(self, content: bytes | bytearray | memoryview) -> None:
        self._at += len(content)
        if len(content) >= LARGE_RECORD:
            self._flush()
            self._release()
            write_at(self._stream, content, self._flushed)
            self._flushed += len(content)
            return
        self._pending += content
        if len(self._pending) >= _PENDING:
            self._flush()

    def _flush(self) -> None:
        if self._holds:
            self._held.append((self._pending, self._flushed))
        else:
            write_at(self._stream, self._pending, self._flushed)
        self._flushed += len(self._pending)
        self._pending = bytearray()
        if self._flushed - self._copied > _MOST_HELD:
            self._release()

    def _release(self) -> None:
        """End the head start, and write what was held back for it."""
        if self._holds and self._head_start:
            self._head_start.stop()
        self._holds = False
        for content, at in self._held:
            write_at(self._stream, content, at)
        self._held = []
