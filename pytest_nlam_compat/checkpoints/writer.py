"""Writing a checkpoint, with every unchanged tensor copied as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.draft import draft
from pytest_nlam_compat.checkpoints.pickler import dump
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import SAVE_AGAIN, refusal
from pytest_nlam_compat.checkpoints.stand_ins import StorageRef
from pytest_nlam_compat.checkpoints.walk import refuse_endless
from pytest_nlam_compat.checkpoints.zipwriter import (
    ALIGNMENT,
    Progress,
    ZipWriter,
)

if TYPE_CHECKING:
    import torch


def write_checkpoint(
    checkpoint: Checkpoint | Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Tensors that are still references are copied as bytes, without loading
    them. The new file has exactly the records that the tree needs, and those
    that torch.save adds.

    Parameters
    ----------
    checkpoint : Checkpoint or object
        An open checkpoint, or a tree: plain containers, numbers and text,
        stand-ins, and ``torch.Tensor``. References in it may come from
        several checkpoints; all must be open.
    path : str or path-like
        Where to. May be the file that the checkpoint was read from.
    overwrite : bool, optional
        Whether there may be a file already, which is then replaced.
    progress : callable, optional
        Receives now and then how many bytes of tensors are written, and of
        how many.

    Raises
    ------
    CompatError
        If there is a file already, the tree can't be written, a file that it
        is copied from changes, or the disk does not take it.
    """
    # Through a link, as those that Lightning makes for its last checkpoint.
    target = Path(os.path.realpath(path))
    is_open = isinstance(checkpoint, Checkpoint)
    tree = checkpoint.data if is_open else checkpoint
    refuse_endless(tree, target, sys.maxsize)
    pickle, storages = dump(tree)
    sources = [each for each in storages if isinstance(each, StorageRef)]
    for source in sources:
        if source.archive.byteorder != sys.byteorder:
            raise refusal(
                source.archive.path,
                "was written on a machine of the other byte order",
                SAVE_AGAIN,
            )
    with draft(target, overwrite) as stream:
        writer = ZipWriter(
            stream, checkpoint.archive.folder if is_open else "archive"
        )
        _write_records(writer, pickle, storages, progress)
        for archive in {source.archive for source in sources}:
            archive.refuse_changed()


def _write_records(
    writer: ZipWriter,
    pickle: bytes,
    storages: list[StorageRef | torch.UntypedStorage],
    progress: Progress | None,
) -> None:
    """Write the records in the order of torch."""
    writer.add("data.pkl", pickle)
    # Lets torch calculate the places of records.
    writer.add(".format_version", b"1")
    writer.add(".storage_alignment", str(ALIGNMENT).encode())
    writer.add("byteorder", sys.byteorder.encode())
    done, whole = 0, sum(map(_nbytes, storages))

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, whole)

    for key, storage in enumerate(storages):
        if isinstance(storage, StorageRef):
            record = storage.record
            writer.copy(f"data/{key}", storage.archive, record, advance)
        else:
            writer.add(f"data/{key}", _content(storage))
            advance(storage.nbytes())
    writer.add("version", b"3\n")
    # 40 digits that differ for other contents; torch only logs them.
    identity = f"{len(pickle):020d}{writer.checksum():020d}"
    writer.add(".data/serialization_id", identity.encode())
    writer.finish()


def _nbytes(storage: StorageRef | torch.UntypedStorage) -> int:
    if isinstance(storage, StorageRef):
        return storage.nbytes
    return int(storage.nbytes())


def _content(storage: torch.UntypedStorage) -> memoryview:
    """Return the bytes of a storage, where they are: no copy."""
    import torch

    whole = torch.empty(0, dtype=torch.uint8)
    return memoryview(whole.set_(storage).numpy())  # type: ignore[arg-type]
