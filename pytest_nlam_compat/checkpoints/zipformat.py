"""The container that torch.save writes: a zip of stored records.

Not read with ``zipfile``: it and torch's reader (miniz) each ignore parts of
an archive, and not the same ones. Here each part is decoded, encoded again as
torch writes it, and compared: what two programs could read differently is
refused, so that what was checked is what torch loads later.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    DISTRUST,
    SAVE_AGAIN,
    printable,
    refusal,
)

UTF8_NAME = 0x0800
HAS_DESCRIPTOR = 0x0008

#: What is as large, or as far away, is in a ZIP64 field instead.
ZIP64_FROM = 0xFFFFFFFF

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<2H")
_ZIP64 = 0x0001
_PADDING = int.from_bytes(b"FB", "little")
_DOS_ATTRIBUTES = 0xFFFF
_VERSIONS_OF_TORCH = (0x031E, 45)

#: miniz cuts longer names off.
_LONGEST_NAME = 500
#: What one record costs in memory: its object, its name and its numbers.
_RECORD_COST = 500
_RECORDS = re.compile(
    r"data\.pkl|data/[0-9]+|version|byteorder|\.format_version|"
    r"\.storage_alignment|\.data/serialization_id"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its bytes are ``size`` bytes of the file from ``start``."""

    name: str
    start: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What an archive says about one record, in three places."""

    path: bytes
    flags: int
    crc: int
    size: int
    at: int
    versions: tuple[int, int] = (0, 0)
    time: tuple[int, int] = (0, 0)
    attributes: int = 0

    @property
    def zip64(self) -> bytes:
        """The extra field for numbers that need more than 32 bits."""
        wide = [self.size] * 2 if self.size >= ZIP64_FROM else []
        wide += [self.at] if self.at >= ZIP64_FROM else []
        if not wide:
            return b""
        return struct.pack(f"<2H{len(wide)}Q", _ZIP64, 8 * len(wide), *wide)

    def central(self) -> bytes:
        """Return its entry in the central directory."""
        size, at = (
            value if value < ZIP64_FROM else 0xFFFFFFFF
            for value in (self.size, self.at)
        )
        return (
            _CENTRAL.pack(
                *(b"PK\x01\x02", *self.versions, self.flags, 0, *self.time),
                *(self.crc, size, size, len(self.path), len(self.zip64)),
                *(0, 0, 0, self.attributes, at),
            )
            + self.path
            + self.zip64
        )

    def local(self, padding: bytes) -> bytes:
        """Return its local header, with a padding behind it."""
        numbers = (self.crc, self.size, self.size)
        if self.flags & HAS_DESCRIPTOR:
            numbers = (0, 0, 0)
        extra = self.zip64 + padding
        return (
            _LOCAL.pack(
                *(b"PK\x03\x04", self.versions[1], self.flags, 0, *self.time),
                *(*numbers, len(self.path), len(extra)),
            )
            + self.path
            + extra
        )

    def descriptor(self) -> bytes:
        """Return what is behind its bytes."""
        if not self.flags & HAS_DESCRIPTOR:
            return b""
        layout = "<4sI2Q" if self.zip64 else "<4s3I"
        return struct.pack(
            layout, b"PK\x07\x08", self.crc, self.size, self.size
        )


def pad(size: int) -> bytes:
    """Return an extra field of a size, as torch aligns its records with."""
    return _EXTRA.pack(_PADDING, size - _EXTRA.size) + b"Z" * (
        size - _EXTRA.size
    )


def end_of_archive(
    count: int,
    length: int,
    start: int,
    versions: tuple[int, int] | None = _VERSIONS_OF_TORCH,
) -> bytes:
    """Return what is behind the central directory."""
    numbers = (0, 0, count, count, length, start)
    limits = (0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    end = _END.pack(b"PK\x05\x06", *map(min, numbers, limits), 0)
    if versions is None:
        return end
    size = _END64.size - 12
    return (
        _END64.pack(b"PK\x06\x06", size, *versions, *numbers)
        + _LOCATOR.pack(b"PK\x06\x07", 0, start + length, 1)
        + end
    )


class DirectoryReader:
    """Reads where the records of an archive are, and checks all around them."""

    def __init__(
        self,
        read_at: Callable[[int, int], bytes],
        size: int,
        path: Path,
        charge: Callable[[int], None],
    ) -> None:
        self._read_at = read_at
        self._size = size
        self._path = path
        self._charge = charge

    def read(self) -> tuple[str, dict[str, Record]]:
        """Return the folder of all records, and them by name without it."""
        count, length, start = self._end()
        self._charge(count * _RECORD_COST)
        at, folder = 0, ""
        records: dict[str, Record] = {}
        names: set[str] = set()
        for entry in self._entries(self._read_at(start, length), count):
            path = self._name(entry)
            top, _, name = path.partition("/")
            folder = folder or top
            self._refuse_foreign(top == folder, name, path)
            # miniz finds records without regard to case.
            if name.casefold() in names:
                self._refuse("holds two records of one name", DISTRUST, path)
            names.add(name.casefold())
            if entry.at != at:
                what = "holds records that overlap, or bytes between them"
                self._refuse(what, DISTRUST, path)
            begun = at + self._header_size(entry, path)
            at = begun + entry.size
            if self._read_at(at, len(entry.descriptor())) != entry.descriptor():
                self._contradiction(path)
            at += len(entry.descriptor())
            records[name] = Record(name, begun, entry.size, entry.crc)
        if at != start:
            self._damaged("its records do not end where their list begins")
        if not {"data.pkl", "version"} <= records.keys():
            self._refuse(
                "is a zip archive, but not one of torch.save: it has no "
                "data.pkl or no version",
                COPY_AGAIN,
            )
        return folder, records

    def _end(self) -> tuple[int, int, int]:
        """Return number of entries, size and place of the directory."""
        at = self._size - _END.size
        raw = self._read_at(max(at, 0), _END.size)
        if len(raw) < _END.size or not raw.startswith(b"PK\x05\x06"):
            self._refuse(
                "does not end as an archive of torch.save does: it was cut "
                "short, or something was appended to it",
                COPY_AGAIN,
            )
        numbers, versions = _END.unpack(raw)[4:7], None
        wide_at = at - _LOCATOR.size - _END64.size
        if (
            wide_at > 0
            and self._read_at(at - _LOCATOR.size, 4) == b"PK\x06\x07"
        ):
            at, fields = (
                wide_at,
                _END64.unpack(self._read_at(wide_at, _END64.size)),
            )
            numbers, versions = fields[7:], fields[2:4]
        count, length, start = numbers
        if (
            start + length != at
            or count * _CENTRAL.size > length
            or self._read_at(at, self._size - at)
            != end_of_archive(count, length, start, versions)
        ):
            self._damaged("its end is not as torch.save writes it")
        return count, length, start

    def _entries(self, directory: bytes, count: int) -> Iterator[Entry]:
        position = 0
        for _ in range(count):
            raw = directory[position : position + _CENTRAL.size]
            if len(raw) < _CENTRAL.size:
                self._damaged("its list of records ends too early")
            fields = _CENTRAL.unpack(raw)
            made_by, needed, flags, method, time, date, crc = fields[1:8]
            size, name_length, extra_length = fields[9:12]
            name_at = position + _CENTRAL.size
            extra_at = name_at + name_length
            path = directory[name_at:extra_at]
            end = extra_at + extra_length
            wide = directory[extra_at + _EXTRA.size : end]
            at = fields[-1]
            if size == 0xFFFFFFFF:
                size, wide = int.from_bytes(wide[:8], "little"), wide[16:]
            if at == 0xFFFFFFFF:
                at = int.from_bytes(wide[:8], "little")
            self._refuse_packed(flags, method, path)
            entry = Entry(
                *(path, flags, crc, size, at),
                *((made_by, needed), (time, date), fields[-2]),
            )
            if (
                directory[position:end] != entry.central()
                or flags & ~(UTF8_NAME | HAS_DESCRIPTOR)
                # Among them that of a directory, whose memory miniz would
                # leave as it is.
                or entry.attributes & _DOS_ATTRIBUTES
            ):
                self._damaged("its list of records is not as torch writes it")
            yield entry
            position = end
        if position != len(directory):
            self._damaged("its list of records ends too late")

    def _header_size(self, entry: Entry, path: str) -> int:
        """Return the size of a record's local header, after checking it."""
        bare = len(entry.local(b""))
        length = self._read_at(entry.at + _LOCAL.size - _EXTRA.size, 4)[2:]
        padding = int.from_bytes(length, "little") - len(entry.zip64)
        behind = self._read_at(entry.at + bare, max(padding, 0))
        if behind and not (
            len(behind) == padding >= _EXTRA.size
            and behind.startswith(pad(padding)[: _EXTRA.size])
        ):
            self._contradiction(path)
        if self._read_at(entry.at, bare + len(behind)) != entry.local(behind):
            self._contradiction(path)
        return bare + len(behind)

    def _name(self, entry: Entry) -> str:
        name = entry.path.decode("utf-8", "replace")
        if (
            "\\" in name
            or name.encode() != entry.path
            or not name.isprintable()
            or len(name) > _LONGEST_NAME
            or any(part in ("", ".", "..") for part in name.split("/"))
            or not (name.isascii() or entry.flags & UTF8_NAME)
        ):
            self._refuse("holds a record with a dangerous name", DISTRUST, name)
        return name

    def _refuse_packed(self, flags: int, method: int, path: bytes) -> None:
        if method and b"/code/" in path:
            # Of all that torch writes, it compresses these alone.
            self._refuse_torch_script()
        if flags & 1 or method:
            what = "is encrypted" if flags & 1 else "holds a compressed record"
            self._refuse(what, SAVE_AGAIN, path.decode("utf-8", "replace"))

    def _refuse_foreign(self, in_folder: bool, name: str, path: str) -> None:
        if name == "constants.pkl" or name.startswith("code/"):
            self._refuse_torch_script()
        if not in_folder or not _RECORDS.fullmatch(name):
            self._refuse(
                "is a zip archive, but not one of torch.save: it holds a "
                "record that torch does not write",
                SAVE_AGAIN,
                path,
            )

    def _refuse_torch_script(self) -> NoReturn:
        self._refuse(
            "is a TorchScript archive: a program, not a checkpoint",
            "Pass the checkpoint that it was made from; or load it with "
            "torch.jit.load and save its state_dict() with torch.save.",
        )

    def _contradiction(self, path: str) -> NoReturn:
        self._refuse(
            "has a record whose header contradicts the list of records",
            DISTRUST,
            path,
        )

    def _damaged(self, what: str) -> NoReturn:
        self._refuse(f"is damaged: {what}", COPY_AGAIN)

    def _refuse(self, what: str, remedy: str, record: str = "") -> NoReturn:
        facts = {"record": printable(record)} if record else {}
        raise refusal(self._path, what, remedy, **facts)
