"""An archive of torch.save: named records in one file."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pytest_nlam_compat.checkpoints import zipformat
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files import recognition, refusals
from pytest_nlam_compat.files.refusals import printable

_CHUNK = 1024 * 1024

#: What one record costs in memory: its object, its name and its numbers.
_RECORD_COST = 500
_TENSOR_COST = 2500

#: miniz cuts longer names off.
_LONGEST_PATH = 500
_PATH = re.compile(
    r"(?!\.\.?/)[^/\\]+/(data\.pkl|data/[0-9]+|version|byteorder|"
    r"\.format_version|\.storage_alignment|\.data/serialization_id)"
)

_MOST_CONTENT = 64
#: What torch writes into its small records.
_CONTENTS = {
    "version": rb"([1-9]|10)\n?",
    "byteorder": sys.byteorder.encode(),
    ".format_version": b"[1-9]",
    ".storage_alignment": str(zipformat.ALIGNMENT).encode(),
    ".data/serialization_id": b"[0-9]{1,64}",
}


class Record(NamedTuple):
    """One record: its bytes are ``size`` bytes of the file from ``start``."""

    name: str
    start: int
    size: int
    crc: int


class Archive:
    """An open archive; only its list of records has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = ""
        self.records: dict[str, Record] = {}
        self._stream = recognition.open_regular(path)
        self._verified: set[str] = set()
        try:
            status = os.fstat(self._stream.fileno())
            self.size = status.st_size
            self._identity = _identity(status)
            self.budget = refusals.Budget(path, self.size)
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
        descriptor = self.fileno()
        try:
            if hasattr(os, "pread"):
                return os.pread(descriptor, size, start)
            self._stream.seek(start)
            return self._stream.read(size)
        except OSError as error:
            raise refusals.refusal(
                self.path,
                "can't be read",
                "Check its disk, and whether it is an ordinary file.",
                cause=error.strerror or error,
            ) from error

    def read(
        self, name: str, start: int = 0, end: int | None = None
    ) -> bytearray:
        """Read a part of a record; check the whole record the first time."""
        record = self.records[name]
        content = bytearray().join(self._chunks(record, start, end))
        if name not in self._verified:
            is_whole = len(content) == record.size
            self._check(record, content if is_whole else None)
        return content

    def verify(self) -> None:
        """Read all records once, and check them."""
        for record in self.records.values():
            self._check(record)

    def refuse_changed(self) -> None:
        """Refuse the file if it was changed or replaced since it was opened."""
        self.fileno()
        with contextlib.suppress(OSError):
            if _identity(self.path.stat()) == self._identity:
                return
        raise self.changed("changed")

    def changed(self, how: str = "became shorter") -> CompatError:
        """Make the error for a file that changes while it is read."""
        remedy = "Wait until nothing writes to it any more, and try again."
        return refusals.refusal(self.path, f"{how} while it was read", remedy)

    def _check(self, record: Record, content: bytearray | None = None) -> None:
        crc = 0
        for chunk in self._chunks(record) if content is None else [content]:
            crc = zlib.crc32(chunk, crc)
        if crc != record.crc:
            what = "is damaged: a record does not have its checksum"
            raise self._refuse(what, refusals.COPY_AGAIN, record=record.name)
        self._verified.add(record.name)

    def _chunks(
        self, record: Record, start: int = 0, end: int | None = None
    ) -> Iterator[bytes | bytearray]:
        at = record.start + start
        end = record.start + (record.size if end is None else end)
        while at < end:
            chunk = self.read_at(at, min(end - at, _CHUNK))
            if not chunk:
                raise self.changed()
            at += len(chunk)
            yield chunk

    def _read_records(self) -> None:
        head = self.read_at(0, recognition.HEAD)
        recognition.refuse_foreign(head, self.size, self.path)
        at = max(0, self.size - zipformat.END_SIZE)
        tail = self.read_at(at, zipformat.END_SIZE)
        numbers = struct.unpack_from("<3Q", tail.ljust(zipformat.END_SIZE), 32)
        count, length, start = numbers
        if not tail.startswith(b"PK\6\6") or start + length != at:
            raise self._refuse(
                "does not end as an archive of torch.save does: it was cut "
                "short, something was appended, or another program wrote it",
                refusals.COPY_AGAIN,
            )
        self.budget.charge(count * _RECORD_COST + length)
        directory, layout = self.read_at(start, length), zipformat.Layout()
        for path, size, crc in islice(zipformat.entries(directory), count):
            self._add(layout, path, size, crc)
        if layout.at != start or layout.end() != directory + tail:
            what = "is damaged: its list of records is not as torch writes it"
            raise self._refuse(what, refusals.COPY_AGAIN)
        if "data.pkl" not in self.records or "version" not in self.records:
            what = "has no data.pkl or no version"
            raise self._refuse(what, refusals.COPY_AGAIN)
        for name in filter(self.records.__contains__, _CONTENTS):
            size = min(self.records[name].size, _MOST_CONTENT + 1)
            content = self.read(name, 0, size)
            if not re.fullmatch(_CONTENTS[name], content):
                raise self._refuse(
                    "was not written by torch.save on such a machine as this",
                    refusals.SAVE_AGAIN,
                    **{name: content.decode("latin-1")},
                )
        # A tensor needs as much in the pickle, however small it is.
        self.budget.grant(count * _TENSOR_COST)

    def _add(
        self, layout: zipformat.Layout, raw: bytes, size: int, crc: int
    ) -> None:
        """Add the next record, if it is as and where torch writes it."""
        path = raw.decode("utf-8", "replace")
        folder, _, name = path.partition("/")
        self.folder = self.folder or folder
        if name == "constants.pkl" or name.startswith("code/"):
            raise self._refuse(
                "is a TorchScript archive: a program, not a checkpoint",
                "Pass the checkpoint that it was made from; or load it with "
                "torch.jit.load and save its state_dict() with torch.save.",
            )
        if (
            not _PATH.fullmatch(path)
            or not path.isprintable()
            or path.encode() != raw
            or len(raw) > _LONGEST_PATH
            or folder != self.folder
        ):
            what = "holds a record that torch.save does not write"
            raise self._refuse(what, refusals.SAVE_AGAIN, record=path)
        if name in self.records:
            what = "holds two records of one name"
            raise self._refuse(what, record=path)
        at = layout.at
        header, descriptor = layout.add(raw, size, crc)
        start = at + len(header)
        if (
            layout.at > self.size
            or self.read_at(at, len(header)) != header
            or self.read_at(start + size, len(descriptor)) != descriptor
        ):
            what = "holds a record that is not laid out as torch.save does it"
            raise self._refuse(what, refusals.SAVE_AGAIN, record=path)
        self.records[name] = Record(name, start, size, crc)

    def _refuse(
        self, what: str, remedy: str = refusals.DISTRUST, **facts: str
    ) -> CompatError:
        shown = {name: printable(fact) for name, fact in facts.items()}
        return refusals.refusal(self.path, what, remedy, **shown)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
