"""An archive of torch.save: named records in one file."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    DISTRUST,
    Budget,
    open_regular,
    printable,
    refusal,
    refuse_foreign,
)
from pytest_nlam_compat.checkpoints.zipformat import DirectoryReader, Record
from pytest_nlam_compat.errors import CompatError

_CHUNK = 1024 * 1024
_TENSOR_COST = 2500

#: What torch writes into its small records.
_CONTENTS = {
    "version": re.compile(rb"([1-9]|10)\n?"),
    "byteorder": re.compile(rb"little|big"),
    ".format_version": re.compile(rb"[1-9]"),
    ".storage_alignment": re.compile(rb"[1-9][0-9]{0,8}"),
    ".data/serialization_id": re.compile(rb"[0-9]{1,64}"),
}


class Archive:
    """An open archive; only its list of records has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.byteorder = "little"
        self.folder = ""
        self.records: dict[str, Record] = {}
        self._stream = open_regular(path)
        self._verified: set[str] = set()
        try:
            status = os.fstat(self._stream.fileno())
            self.size = status.st_size
            self._modified = status.st_mtime_ns
            self.budget = Budget(path, self.size)
            self._read_records()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def fileno(self) -> int:
        """Return the descriptor of the open file."""
        if self._stream.closed:
            raise CompatError(
                f"{printable(self.path.name)} has been closed already.",
                remedy="Read its tensors inside its with block.",
            )
        return self._stream.fileno()

    def read_at(self, start: int, size: int) -> bytes:
        """Read bytes from a place in the file; fewer at its end."""
        if hasattr(os, "pread"):
            return os.pread(self.fileno(), size, start)
        self.fileno()
        self._stream.seek(start)
        return self._stream.read(size)

    def read(self, name: str) -> bytearray:
        """Read one record and check it."""
        return self.read_part(name, 0, self.records[name].size)

    def read_part(self, name: str, start: int, end: int) -> bytearray:
        """Read a part of a record; check the whole record the first time."""
        if name not in self._verified and end - start < self.records[name].size:
            self._verify(name)
        content = bytearray().join(self._chunks(name, start, end))
        if name not in self._verified:
            self._check(name, zlib.crc32(content))
        return content

    def verify(self) -> None:
        """Read all records once, and check them."""
        for name in self.records:
            self._verify(name)

    def checksum(self, name: str) -> int:
        """Return the checksum that a record should have, without reading it."""
        return self.records[name].crc

    def refuse_changed(self) -> None:
        """Refuse the file if it was written to since it was opened."""
        status = os.fstat(self.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self._modified):
            raise self.changed("changed")

    def changed(self, how: str = "became shorter") -> CompatError:
        """Make the error for a file that changes while it is read."""
        return refusal(
            self.path,
            f"{how} while it was read",
            "Wait until nothing writes to it any more, and try again.",
        )

    def _read_records(self) -> None:
        refuse_foreign(self.read_at(0, 512), self.size, self.path)
        self.folder, self.records = DirectoryReader(
            self.read_at, self.size, self.path, self.budget.charge
        ).read()
        # A tensor needs as much in the pickle, however small it is.
        self.budget.grant(len(self.records) * _TENSOR_COST)
        for name, contents in _CONTENTS.items():
            if name not in self.records:
                continue
            content = b""
            if self.records[name].size <= 64:
                content = bytes(self.read(name))
            if not contents.fullmatch(content):
                raise refusal(
                    self.path,
                    f"holds a record {name} as torch.save does not write it",
                    DISTRUST,
                    content=printable(content.decode("latin-1")),
                )
            if name == "byteorder":
                self.byteorder = content.decode()

    def _verify(self, name: str) -> None:
        crc = 0
        for chunk in self._chunks(name, 0, self.records[name].size):
            crc = zlib.crc32(chunk, crc)
        self._check(name, crc)

    def _check(self, name: str, crc: int) -> None:
        if crc != self.records[name].crc:
            raise refusal(
                self.path,
                "is damaged: a record does not have its checksum",
                COPY_AGAIN,
                record=printable(name),
            )
        self._verified.add(name)

    def _chunks(self, name: str, start: int, end: int) -> Iterator[bytes]:
        at = self.records[name].start + start
        end += self.records[name].start
        while at < end:
            chunk = self.read_at(at, min(end - at, _CHUNK))
            if not chunk:
                raise self.changed()
            at += len(chunk)
            yield chunk
