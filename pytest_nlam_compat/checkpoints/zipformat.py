"""The layout of an archive of torch.save: a zip of stored records.

An archive is written by it; and one that is read has to be what it makes of
the names, sizes and checksums in there, byte for byte: Python's zipfile and
torch's reader (miniz) each ignore parts of an archive, and not the same ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

#: What is as large, or as far away, is in a ZIP64 field instead.
ZIP64_FROM = 0xFFFFFFFF

#: Records begin at multiples of this. torch calculates their places from it,
#: without looking, when it loads a file by mmap.
ALIGNMENT = 64

END_SIZE = 98

_ENTRY_SIZE = 46
_ZIP64 = 0x0001
_UTF8_NAME = 0x0800
_HAS_DESCRIPTOR = 0x0008
_VERSIONS = (0x031E, 45)


class Layout:
    """The bytes around the records, as torch writes them."""

    def __init__(self) -> None:
        self.at = 0
        self.directory = bytearray()
        self._count = 0

    def add(self, path: bytes, size: int, crc: int) -> tuple[bytes, bytes]:
        """Return what is before and behind the bytes of the next record."""
        wide = [size, size] if size >= ZIP64_FROM else []
        wide += [self.at] if self.at >= ZIP64_FROM else []
        zip64 = struct.pack(f"<2H{len(wide)}Q", _ZIP64, 8 * len(wide), *wide)
        zip64 = zip64 if wide else b""
        narrow_size, narrow_at = (
            number if number < ZIP64_FROM else 0xFFFFFFFF
            for number in (size, self.at)
        )
        numbers, descriptor, flags = (crc, size, size), b"", _UTF8_NAME
        # Nothing follows an empty record.
        if size:
            flags |= _HAS_DESCRIPTOR
            kinds = "<4sI2Q" if zip64 else "<4s3I"
            descriptor = struct.pack(kinds, b"PK\x07\x08", *numbers)
            numbers = (0, 0, 0)
        padding = -(self.at + 34 + len(path) + len(zip64)) % ALIGNMENT
        extra = zip64 + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        header = struct.pack(
            "<4s5H3I2H",
            *(b"PK\x03\x04", 0, flags, 0, 0, 0, *numbers),
            *(len(path), len(extra)),
        )
        entry = struct.pack(
            "<4s6H3I5H2I",
            *(b"PK\x01\x02", 0, 0, flags, 0, 0, 0, crc),
            *(narrow_size, narrow_size, len(path), len(zip64)),
            *(0, 0, 0, 0, narrow_at),
        )
        self.directory += entry + path + zip64
        self._count += 1
        header += path + extra
        self.at += len(header) + size + len(descriptor)
        return header, descriptor

    def end(self) -> bytes:
        """Return what is behind all records: their list, and its place."""
        length = len(self.directory)
        numbers = (0, 0, self._count, self._count, length, self.at)
        limits = (0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        narrow = map(min, numbers, limits)
        return (
            bytes(self.directory)
            + struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, *_VERSIONS, *numbers)
            + struct.pack("<4sIQI", b"PK\6\7", 0, self.at + length, 1)
            + struct.pack("<4s4H2IH", b"PK\5\6", *narrow, 0)
        )


def entries(directory: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield path, size and checksum of each record.

    Nothing is checked: what is wrong is not as `Layout` writes it.
    """
    at = 0
    while at + _ENTRY_SIZE <= len(directory):
        crc, _, size, path_length, extra_length = struct.unpack_from(
            "<3I2H", directory, at + 16
        )
        start = at + _ENTRY_SIZE
        end = start + path_length
        if size == 0xFFFFFFFF:
            size = int.from_bytes(directory[end + 4 : end + 12], "little")
        yield directory[start:end], size, crc
        at = end + extra_length
