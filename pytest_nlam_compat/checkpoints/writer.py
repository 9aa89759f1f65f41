"""Writing a checkpoint, with every unchanged tensor copied as it is."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.copying import Progress
from pytest_nlam_compat.checkpoints.fresh import FreshStorage
from pytest_nlam_compat.checkpoints.pickler import Pickler
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.refusals import (
    SAVE_AGAIN,
    printable,
    refusal,
)
from pytest_nlam_compat.checkpoints.standins import StorageRef
from pytest_nlam_compat.checkpoints.walk import refuse_endless
from pytest_nlam_compat.checkpoints.zipwriter import ALIGNMENT, ZipWriter
from pytest_nlam_compat.errors import CompatError

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
    with _replacing(target, overwrite) as stream:
        writer = ZipWriter(stream, archive.folder if archive else "archive")
        _write_records(writer, pickle, pickler.storages, archive)
        writer.finish(progress)


def _write_records(
    writer: ZipWriter,
    pickle: bytes,
    storages: list[StorageRef | FreshStorage],
    archive: Archive | None,
) -> None:
    """Write the records in the order of torch."""
    writer.add("data.pkl", pickle)
    writer.add(".format_version", b"1")
    writer.add(".storage_alignment", str(ALIGNMENT).encode())
    writer.add("byteorder", sys.byteorder.encode())
    for key, storage in enumerate(storages):
        if isinstance(storage, StorageRef):
            # Padding before any other would be where torch expects none.
            large = storage.archive.size >= _LARGE
            writer.copy(
                f"data/{key}",
                storage.archive,
                storage.record,
                in_phase=large and key == 0,
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


@contextlib.contextmanager
def _replacing(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file beside the target; it takes its place at the end."""
    if not overwrite:
        _refuse_existing(target)
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        with part.open("xb", buffering=0) as stream:
            yield stream
            os.fsync(stream.fileno())
        if overwrite and target.exists():
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        elif not overwrite:
            _refuse_existing(target)
        part.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise CompatError(
            f"{printable(target.name)} can't be written.",
            facts={
                "file": printable(str(target), 1000),
                "cause": error.strerror or error,
            },
            remedy="Nothing was changed. Make room or mend the permissions of "
            "its folder, and try again.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise refusal(
            target,
            "is there already",
            "Give another path, or say that it may be overwritten.",
        )


def _sync_folder(folder: Path) -> None:
    """Make a new name last through a power cut, where a folder can be."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
