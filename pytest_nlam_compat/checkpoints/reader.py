"""Reading a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef
from pytest_nlam_compat.checkpoints.unpickler import CheckpointUnpickler


class Checkpoint:
    """An open checkpoint: its whole tree, and where its tensors are.

    Used in a with block: within it, tensors can be loaded and written.

    Attributes
    ----------
    path : Path
    archive : Archive
        Its records.
    data : object
        The tree: plain containers, numbers and text, and stand-ins for the
        rest. It may be changed.
    globals : tuple of GlobalRef
        What the pickle names, in its order, whether used or not.
    """

    def __init__(self, archive: Archive) -> None:
        unpickler = CheckpointUnpickler(archive)
        self.path = archive.path
        self.archive = archive
        self.data: Any = unpickler.load()
        self.globals: tuple[GlobalRef, ...] = tuple(unpickler.globals)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.archive.close()


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint and read all of it but its tensors.

    Nothing that its pickle names is imported or called, so that an untrusted
    file may be read. For a with block.

    Raises
    ------
    CompatError
        If the file is not one that ``torch.save`` or Lightning wrote, damaged,
        or dangerous to read.
    """
    archive = Archive(Path(path))
    try:
        return Checkpoint(archive)
    except BaseException:
        archive.close()
        raise
