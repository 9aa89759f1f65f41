"""Writing a checkpoint, with every unchanged tensor copied as it is."""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_nlam_compat.checkpoints.archive import Archive, Record
from pytest_nlam_compat.checkpoints.pickler import CheckpointPickler
from pytest_nlam_compat.checkpoints.stand_ins import StorageRef
from pytest_nlam_compat.checkpoints.walk import refuse_endless
from pytest_nlam_compat.checkpoints.zipformat import ALIGNMENT, Layout
from pytest_nlam_compat.files.drafts import draft

if TYPE_CHECKING:
    import torch

_BLOCK = 1024 * 1024
_PIECE = 64 * 1024 * 1024


def write_checkpoint(
    tree: Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    keep_device: bool = True,
) -> None:
    """Write a checkpoint, whole or not at all.

    Tensors that are still references are copied as bytes, without loading
    them. The new file has exactly the records that the tree needs, and those
    that torch.save adds.

    Parameters
    ----------
    tree : object
        Plain containers, numbers and text, stand-ins, and ``torch.Tensor``.
        Its references may come from several checkpoints; all must be open.
    path : str or path-like
        May be that of one of these, with ``overwrite``.
    keep_device : bool
        Keep the devices on which tensors were, instead of writing that all
        were on the CPU: elsewhere torch.load looks for the devices.

    Raises
    ------
    CompatError
        If there is a file already, the tree can't be written, a file that it
        is copied from changes, or the disk does not take it.
    """
    # Through a link, as those that Lightning makes for its last checkpoint.
    target = Path(os.path.realpath(path) if overwrite else path)
    refuse_endless(tree, target, sys.maxsize)
    pickler = CheckpointPickler(keep_device)
    pickle = pickler.dumps(tree)
    refs = [each for each in pickler.storages if isinstance(each, StorageRef)]
    with draft(target, overwrite) as stream:
        _write_records(ZipWriter(stream), pickle, pickler.storages)
        for archive in {ref.archive for ref in refs}:
            archive.refuse_changed()


def _write_records(
    writer: ZipWriter,
    pickle: bytes,
    storages: list[StorageRef | torch.UntypedStorage],
) -> None:
    """Write the records in the order of torch."""
    writer.add("data.pkl", pickle)
    writer.add(".format_version", b"1")
    writer.add(".storage_alignment", str(ALIGNMENT).encode())
    writer.add("byteorder", sys.byteorder.encode())
    for key, storage in enumerate(storages):
        if isinstance(storage, StorageRef):
            record = storage.archive.records[storage.record]
            writer.copy(f"data/{key}", storage.archive, record)
        else:
            writer.add(f"data/{key}", _content(storage))
    writer.add("version", b"3\n")
    # 40 digits that differ for other contents; torch only logs them.
    identity = f"{len(pickle):020d}{zlib.crc32(writer.layout.directory):020d}"
    writer.add(".data/serialization_id", identity.encode())
    writer.finish()


def _content(storage: torch.UntypedStorage) -> memoryview:
    """Return the bytes of a storage, where they are: no copy."""
    import torch

    whole = torch.empty(0, dtype=torch.uint8)
    return memoryview(whole.set_(storage).numpy())  # type: ignore[arg-type]


class ZipWriter:
    """Writes an archive, record after record, named without the folder.

    The folder is that of ``torch.save`` to a stream, as Lightning does it.
    """

    def __init__(self, stream: BinaryIO, folder: str = "archive") -> None:
        self._stream = stream
        self._folder = folder
        self.layout = Layout()

    def add(self, name: str, content: bytes | memoryview) -> None:
        """Write a record from memory."""
        with self._record(name, len(content), zlib.crc32(content)):
            self._stream.write(content)

    def copy(self, name: str, archive: Archive, record: Record) -> None:
        """Copy a record with its checksum: a damaged one stays recognisable.

        By the kernel, if it can: it then takes as long as ``cp``.
        """
        start, end = record.start, record.start + record.size
        with self._record(name, record.size, record.crc):
            while start < end:
                count = self._copy_by_kernel(archive, start, end - start)
                if not count:
                    block = archive.read_at(start, min(end - start, _BLOCK))
                    count = self._stream.write(block)
                if not count:
                    raise archive.changed()
                start += count

    def finish(self) -> None:
        """Write the list of records; nothing can be added after it."""
        self._stream.write(self.layout.end())

    @contextlib.contextmanager
    def _record(self, name: str, size: int, crc: int) -> Iterator[None]:
        """Write what is before and behind the bytes of a record."""
        path = f"{self._folder}/{name}".encode()
        header, descriptor = self.layout.add(path, size, crc)
        self._stream.write(header)
        yield
        self._stream.write(descriptor)

    def _copy_by_kernel(self, archive: Archive, start: int, size: int) -> int:
        """Have the kernel copy; return how many bytes it did, 0 if it can't."""
        if not hasattr(os, "copy_file_range"):
            return 0
        source = archive.fileno()
        self._stream.flush()
        try:
            target, size = self._stream.fileno(), min(size, _PIECE)
            return os.copy_file_range(source, target, size, start)
        except OSError:
            # If it is not about the file systems, copying meets it again.
            return 0
        finally:
            self._stream.seek(0, os.SEEK_END)
