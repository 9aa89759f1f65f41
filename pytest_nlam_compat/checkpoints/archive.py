"""An archive of torch.save: named records in one file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from pytest_nlam_compat.checkpoints.limits import Budget
from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    DISTRUST,
    SAVE_AGAIN,
    printable,
    refusal,
    torch_script,
)
from pytest_nlam_compat.checkpoints.sniff import open_regular, refuse_foreign
from pytest_nlam_compat.checkpoints.zipformat import Record, read_directory
from pytest_nlam_compat.errors import CompatError

_CHUNK = 1024 * 1024

#: What one record costs in memory: its object, its name and its numbers.
_RECORD_COST = 500


class Archive:
    """An open archive; nothing but its list of records has been read.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    path : Path
        The file.
    size : int
        Its size in bytes.
    folder : str
        The folder that all records are in; torch takes the file's stem.
    records : dict of str to Record
        By name without the folder, in the order of the file.
    byteorder : str
        ``little`` or ``big``.
    budget : Budget
        What reading the file may still cost.

    Raises
    ------
    CompatError
        If the file is not a whole archive of torch.save.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = open_regular(path)
        try:
            self.size = os.fstat(self._stream.fileno()).st_size
            refuse_foreign(self._stream, self.size, path)
            self.budget = Budget(path, self.size)
            found = read_directory(
                self._stream, self.size, path, self._charge_records
            )
            self.folder, self.records = _below_one_folder(found, path)
            self._refuse_other_archives()
            self.byteorder = self._read_byteorder()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def fileno(self) -> int:
        """Return the descriptor of the open file.

        Raises
        ------
        CompatError
            If it has been closed.
        """
        if self._stream.closed:
            raise CompatError(
                f"{printable(self.path.name)} has been closed already.",
                remedy="Read its tensors inside of its with block.",
            )
        return self._stream.fileno()

    def read(self, name: str) -> bytearray:
        """Read one record and check it.

        Parameters
        ----------
        name : str
            Its name without the folder.

        Returns
        -------
        bytearray
            Its bytes, the caller's own.

        Raises
        ------
        CompatError
            If the bytes do not have the checksum of the record.
        """
        record = self.records[name]
        content = bytearray(record.size)
        view = memoryview(content)
        self.fileno()
        self._stream.seek(record.start)
        filled = 0
        while filled < record.size:
            # readinto of an unbuffered file may stop early (at 2 GiB).
            got = self._stream.readinto(view[filled:])  # type: ignore[attr-defined]
            if not got:
                raise self.changed(name)
            filled += got
        if zlib.crc32(content) != record.crc:
            raise self._flipped(name)
        return content

    def read_at(self, start: int, size: int) -> bytes:
        """Read bytes from a place of the file; fewer at its end.

        Several threads may, where the system reads without moving a position.
        """
        if hasattr(os, "pread"):
            return os.pread(self.fileno(), size, start)
        self.fileno()
        self._stream.seek(start)
        return self._stream.read(size)

    def verify(self) -> None:
        """Read all records once, and check them.

        Raises
        ------
        CompatError
            For the first record that does not have its checksum.
        """
        for name in self.records:
            crc = 0
            for chunk in self.chunks(name):
                crc = zlib.crc32(chunk, crc)
            if crc != self.records[name].crc:
                raise self._flipped(name)

    def checksum(self, name: str) -> int:
        """Return the checksum that a record is to have, without reading it."""
        return self.records[name].crc

    def chunks(self, name: str) -> Iterator[bytes]:
        """Read one record piece by piece, unchecked.

        Parameters
        ----------
        name : str
            Its name without the folder.

        Yields
        ------
        bytes
            The next piece of it.

        Raises
        ------
        CompatError
            If the file ends before it.
        """
        record = self.records[name]
        self.fileno()
        at, end = record.start, record.start + record.size
        while at < end:
            # Sought each time: others may read in between.
            self._stream.seek(at)
            chunk = self._stream.read(min(end - at, _CHUNK))
            if not chunk:
                raise self.changed(name)
            at += len(chunk)
            yield chunk

    def changed(self, name: str) -> CompatError:
        """Make the error for a record that is no longer all there."""
        return refusal(
            self.path,
            "became shorter while it was read",
            "Wait until nothing writes to it any more, and try again.",
            record=printable(name),
        )

    def _charge_records(self, count: int) -> None:
        self.budget.charge(count * _RECORD_COST)

    def _refuse_other_archives(self) -> None:
        names = self.records
        if "constants.pkl" in names or any(
            name.startswith("code/") for name in names
        ):
            raise torch_script(self.path)
        if "data.pkl" not in names:
            raise refusal(
                self.path,
                "is a zip archive, but not one of torch.save: it has no "
                "data.pkl",
                COPY_AGAIN,
            )

    def _read_byteorder(self) -> str:
        """Return the byte order; torch before 2.0 wrote no record of it."""
        if "byteorder" not in self.records:
            return "little"
        if self.records["byteorder"].size <= len("little"):
            order = self.read("byteorder").decode("ascii", "replace")
            if order in ("little", "big"):
                return order
        raise refusal(
            self.path, "names a byte order that does not exist", DISTRUST
        )

    def _flipped(self, name: str) -> CompatError:
        return refusal(
            self.path,
            "is damaged: a record does not have its checksum",
            COPY_AGAIN,
            record=printable(name),
        )


def _below_one_folder(
    found: list[Record], path: Path
) -> tuple[str, dict[str, Record]]:
    """Take the folder off the names."""
    folder = found[0].name.split("/")[0] if found else ""
    records = {}
    for record in found:
        top, slash, rest = record.name.partition("/")
        if not slash or top != folder:
            raise refusal(
                path,
                "is a zip archive, but not one of torch.save: its records "
                "are not all in one folder",
                SAVE_AGAIN,
                record=printable(record.name),
            )
        records[rest] = record
    return folder, records
