"""The container that torch.save writes: a zip of stored records.

Stricter than ``zipfile``. Of the ways in which two programs can read one zip
differently (bytes before or behind it, a name twice, a record inside another,
other names in the local headers) each is refused, so that what was checked
here is what torch reads later.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    DISTRUST,
    SAVE_AGAIN,
    printable,
    refusal,
    torch_script,
)

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR = struct.Struct("<4sIQI")
EXTRA = struct.Struct("<2H")

LOCAL_SIGNATURE = b"PK\x03\x04"
CENTRAL_SIGNATURE = b"PK\x01\x02"
END_SIGNATURE = b"PK\x05\x06"
END64_SIGNATURE = b"PK\x06\x06"
LOCATOR_SIGNATURE = b"PK\x06\x07"
DESCRIPTOR_SIGNATURE = b"PK\x07\x08"

#: A 32-bit field that stands at this is in the ZIP64 extra field instead.
IN_ZIP64 = 0xFFFFFFFF
ZIP64_EXTRA = 0x0001
UTF8_NAME = 0x0800
HAS_DESCRIPTOR = 0x0008

_ENCRYPTED = 0x0001

#: Between two records there is at most a data descriptor.
_GAP = 24


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its bytes are ``size`` bytes of the file from ``start``."""

    name: str
    start: int
    size: int
    crc: int


def read_directory(
    stream: BinaryIO, size: int, path: Path, charge: Callable[[int], None]
) -> list[Record]:
    """Read where the records of an archive are.

    Parameters
    ----------
    stream : BinaryIO
        The file.
    size : int
        Its size in bytes.
    path : Path
        Its path, for messages.
    charge : callable
        Told how many records there are before any is kept; may refuse.

    Returns
    -------
    list of Record
        In the order of the file. Names are unique, relative and without
        steps upward; no record overlaps another.

    Raises
    ------
    CompatError
        If the file is not such an archive from its first byte to its last.
    """
    start, end, count = _find_directory(stream, size, path)
    charge(count)
    stream.seek(start)
    directory = stream.read(end - start)
    records: list[Record] = []
    names: set[str] = set()
    position, free_from = 0, 0
    for _ in range(count):
        entry, header_at, position = _entry(directory, position, path)
        if entry.name in names:
            raise refusal(
                path,
                "holds two records of one name",
                DISTRUST,
                record=printable(entry.name),
            )
        names.add(entry.name)
        if not 0 <= header_at - free_from <= _GAP:
            raise refusal(
                path,
                "holds records that overlap, or hidden bytes between them",
                DISTRUST,
                record=printable(entry.name),
            )
        data_at = _data_start(stream, header_at, entry.name, path)
        free_from = data_at + entry.size
        if free_from > start:
            raise _damaged(path, "a record that reaches beyond its end")
        records.append(Record(entry.name, data_at, entry.size, entry.crc))
    if position != len(directory) or start - free_from > _GAP:
        raise _damaged(path, "a list of records that does not fit")
    return records


def _find_directory(
    stream: BinaryIO, size: int, path: Path
) -> tuple[int, int, int]:
    """Return start, end and number of entries of the central directory."""
    if size < END.size:
        raise _cut_short(path)
    stream.seek(size - END.size)
    end = END.unpack(stream.read(END.size))
    if end[0] != END_SIGNATURE or end[7] != 0:
        raise _cut_short(path)
    disk, _, here, count, length, start = end[1:7]
    behind = size - END.size
    locator_at = behind - LOCATOR.size
    if locator_at >= END64.size:
        stream.seek(locator_at)
        signature, _, end64_at, _ = LOCATOR.unpack(stream.read(LOCATOR.size))
        if signature == LOCATOR_SIGNATURE:
            behind = locator_at - END64.size
            if end64_at != behind:
                raise _damaged(path, "a ZIP64 end that is somewhere else")
            stream.seek(end64_at)
            end64 = END64.unpack(stream.read(END64.size))
            if end64[0] != END64_SIGNATURE:
                raise _damaged(path, "no ZIP64 end where it should be")
            for narrow, wide in zip(end[1:7], end64[4:], strict=True):
                if narrow not in (wide, 0xFFFF, IN_ZIP64):
                    raise _damaged(path, "two ends that differ")
            disk, _, here, count, length, start = end64[4:]
    if disk != 0 or here != count:
        raise _damaged(path, "a part of an archive of several files")
    if start + length != behind or count * CENTRAL.size > length:
        raise _damaged(path, "a list of records that does not fit")
    return start, behind, count


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int
    crc: int


def _entry(
    directory: bytes, position: int, path: Path
) -> tuple[_Entry, int, int]:
    """Parse one entry; return it, its header's place and the next entry's."""
    if position + CENTRAL.size > len(directory):
        raise _damaged(path, "a list of records that ends too early")
    fields = CENTRAL.unpack_from(directory, position)
    signature, _, _, flags, method, _, _, crc, packed, size = fields[:10]
    name_length, extra_length, comment_length = fields[10:13]
    header_at = fields[16]
    name_at = position + CENTRAL.size
    extra_at = name_at + name_length
    following = extra_at + extra_length + comment_length
    if signature != CENTRAL_SIGNATURE or following > len(directory):
        raise _damaged(path, "a list of records that is garbled")
    name = _name(directory[name_at:extra_at], path)
    extra = directory[extra_at : extra_at + extra_length]
    size, packed, header_at = _zip64(extra, [size, packed, header_at], path)
    if flags & _ENCRYPTED:
        raise refusal(path, "is encrypted", SAVE_AGAIN, record=printable(name))
    if method != 0 and name.split("/")[1:2] == ["code"]:
        # Of all that torch writes, it compresses these alone.
        raise torch_script(path)
    if method != 0:
        raise refusal(
            path,
            "holds a compressed record, where torch.save only stores",
            SAVE_AGAIN,
            record=printable(name),
        )
    if size != packed:
        raise _damaged(path, "a stored record with two sizes")
    return _Entry(name, size, crc), header_at, following


def _zip64(extra: bytes, values: list[int], path: Path) -> list[int]:
    """Fill in the values that only the ZIP64 extra field has."""
    position = 0
    wide = b""
    while position + EXTRA.size <= len(extra):
        kind, length = EXTRA.unpack_from(extra, position)
        position += EXTRA.size
        if kind == ZIP64_EXTRA:
            wide = extra[position : position + length]
        position += length
    filled = []
    for value in values:
        if value == IN_ZIP64:
            if len(wide) < 8:
                raise _damaged(path, "a large record without its size")
            value = int.from_bytes(wide[:8], "little")
            wide = wide[8:]
        filled.append(value)
    return filled


def _data_start(stream: BinaryIO, header_at: int, name: str, path: Path) -> int:
    """Return where a record's bytes begin, after its local header."""
    stream.seek(header_at)
    encoded = name.encode()
    header = stream.read(LOCAL.size + len(encoded))
    whole = len(header) == LOCAL.size + len(encoded)
    if not whole or not header.startswith(LOCAL_SIGNATURE):
        raise _damaged(path, "a record without a header")
    fields = LOCAL.unpack_from(header)
    if header[LOCAL.size :] != encoded or fields[9] != len(encoded):
        raise refusal(
            path,
            "gives one record two names",
            DISTRUST,
            record=printable(name),
        )
    return header_at + LOCAL.size + len(encoded) + int(fields[10])


def _name(raw: bytes, path: Path) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise _damaged(path, "a record whose name is not UTF-8") from None
    parts = name.split("/")
    if (
        "\\" in name
        or not name.isprintable()
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise refusal(
            path,
            "holds a record with a dangerous name",
            DISTRUST,
            record=printable(name),
        )
    return name


def _cut_short(path: Path) -> Exception:
    return refusal(
        path,
        "does not end as an archive of torch.save does: it was cut short, or "
        "something was appended to it",
        COPY_AGAIN,
    )


def _damaged(path: Path, what: str) -> Exception:
    return refusal(path, f"is damaged: it holds {what}", COPY_AGAIN)
