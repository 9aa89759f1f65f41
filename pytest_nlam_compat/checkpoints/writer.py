"""Writing a checkpoint, with every unchanged tensor copied as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.draft import (
    Draft,
    refuse_existing,
    unwritable,
)
from pytest_nlam_compat.checkpoints.fresh import FreshStorage
from pytest_nlam_compat.checkpoints.head_start import SHIFT, HeadStart
from pytest_nlam_compat.checkpoints.pickler import Pickler
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import SAVE_AGAIN, refusal
from pytest_nlam_compat.checkpoints.stand_ins import StorageRef
from pytest_nlam_compat.checkpoints.walk import refuse_endless
from pytest_nlam_compat.checkpoints.zipwriter import (
    ALIGNMENT,
    LARGE_RECORD,
    ZipWriter,
)

#: What torch writes besides data.pkl and the storages under data/.
_OF_THE_FORMAT = frozenset(
    {
        "data.pkl",
        ".format_version",
        ".storage_alignment",
        "byteorder",
        "version",
        ".data/serialization_id",
    }
)
_VERSION = b"3\n"

#: A file for which the kernel's speed matters more than 4 kB.
_LARGE = 1024 * 1024


def write_checkpoint(
    checkpoint: Checkpoint | Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    head_start: HeadStart | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Tensors that are still references are copied as bytes, without loading
    them; the pickle names again what it named. At any moment there is either
    what was at the path before, or all of the new file.

    Parameters
    ----------
    checkpoint : Checkpoint or object
        An open checkpoint, or a tree: plain containers, numbers and text,
        stand-ins, ``torch.Tensor`` and ``numpy.ndarray``. References in it
        may come from several checkpoints; all must be open.
    path : str or path-like
        Where to. May be the file that the checkpoint was read from.
    overwrite : bool, optional
        Whether there may be a file already, which is then replaced.
    progress : callable, optional
        Told now and then how many bytes of large records are copied,
        and of how many.
    head_start : HeadStart, optional
        A copy that was begun for this path; ends here, and is left to be
        closed.

    Raises
    ------
    CompatError
        If there is a file already, the tree can't be written, or the disk
        does not take it.
    """
    # Through a link, as those that Lightning makes for its last checkpoint.
    target = Path(os.path.realpath(path))
    archive = None
    if isinstance(checkpoint, Checkpoint):
        archive, tree = checkpoint.archive, checkpoint.data
    else:
        tree = checkpoint
    refuse_endless(tree, target)
    pickler = Pickler()
    pickle = pickler.dump(tree)
    _refuse_foreign_byteorder(pickler.storages)
    if not overwrite:
        refuse_existing(target)
    draft = None
    try:
        draft = head_start.draft if head_start else Draft(target)
        writer = ZipWriter(
            draft.stream,
            archive.folder if archive else "archive",
            head_start,
        )
        _write_records(
            writer, pickle, pickler.storages, archive, head_start is not None
        )
        writer.finish(progress)
        draft.place(overwrite)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        if draft:
            draft.close()


def _write_records(
    writer: ZipWriter,
    pickle: bytes,
    storages: list[StorageRef | FreshStorage],
    archive: Archive | None,
    begun: bool,
) -> None:
    """Write the records in the order of torch."""
    writer.add("data.pkl", pickle)
    # It lets torch calculate the places of records, for which there may be no
    # padding between them; without it, torch looks.
    if not begun:
        writer.add(".format_version", b"1")
    writer.add(".storage_alignment", str(ALIGNMENT).encode())
    writer.add("byteorder", sys.byteorder.encode())
    for key, storage, near in _placed(writer, storages, begun):
        if isinstance(storage, StorageRef):
            writer.copy(
                f"data/{key}", storage.archive, storage.record, near=near
            )
        else:
            writer.add(f"data/{key}", storage.content)
    version = _VERSION
    if archive is not None:
        for name in archive.records:
            if name not in _OF_THE_FORMAT and not name.startswith("data/"):
                writer.copy(name, archive, name)
        if "version" in archive.records:
            version = bytes(archive.read("version"))
    writer.add("version", version)
    # 40 digits that differ for other contents; torch only logs them.
    identity = f"{len(pickle):020d}{writer.checksum():020d}"
    writer.add(".data/serialization_id", identity.encode())


def _placed(
    writer: ZipWriter, storages: list[StorageRef | FreshStorage], begun: bool
) -> Iterator[tuple[int, StorageRef | FreshStorage, int | None]]:
    """Yield the storages in the order of the file: key, storage, near.

    Where a copy has begun, large ones stay where it puts them. What has grown
    so much that it would not fit in front of the next of them comes last.
    """
    if not begun:
        for key, storage in enumerate(storages):
            near = None
            if (
                # Padding before any other would be where torch expects none.
                key == 0
                and isinstance(storage, StorageRef)
                and storage.archive.size >= _LARGE
            ):
                near = _start(storage)
            yield key, storage, near
        return
    places = [
        _start(storage) + SHIFT
        if isinstance(storage, StorageRef) and storage.nbytes >= LARGE_RECORD
        else None
        for storage in storages
    ]
    following: list[int | None] = [None]
    for place in reversed(places):
        following.append(following[-1] if place is None else place)
    last = []
    for key, (storage, near) in enumerate(zip(storages, places, strict=True)):
        limit = following[len(storages) - key - 1]
        if near is None and not writer.has_room(storage.nbytes, limit):
            last.append(key)
        else:
            yield key, storage, near
    for key in last:
        yield key, storages[key], None


def _start(storage: StorageRef) -> int:
    return storage.archive.records[storage.record].start


def _refuse_foreign_byteorder(
    storages: list[StorageRef | FreshStorage],
) -> None:
    for storage in storages:
        if (
            isinstance(storage, StorageRef)
            and storage.archive.byteorder != sys.byteorder
        ):
            raise refusal(
                storage.archive.path,
                "was written on a machine of the other byte order",
                SAVE_AGAIN,
            )
