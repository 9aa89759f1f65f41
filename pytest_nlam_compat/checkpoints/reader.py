"""Reading a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints import walk
from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.refusals import refusal
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, TensorRef
from pytest_nlam_compat.checkpoints.unpickler import CheckpointUnpickler


class Checkpoint:
    """An open checkpoint: its whole tree, and where its tensors are.

    Until it is closed, tensors can be loaded and the checkpoint written.

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
        self.close()

    def close(self) -> None:
        """Close the file. The tree stays."""
        self.archive.close()

    def tensors(self) -> dict[str, TensorRef]:
        """Find all tensors, by path: ``state_dict.grid_embedder.0.weight``."""
        return walk.tensors(self.data)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, a part of the tree; CompatError without any."""
        weights = self.data
        if isinstance(weights, dict):
            weights = weights.get("state_dict")
        if not isinstance(weights, dict):
            what = "is not a checkpoint of Lightning: it has no state_dict"
            remedy = "Pass a file that Trainer.save_checkpoint wrote."
            raise refusal(self.path, what, remedy)
        return weights


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint and read all of it but its tensors.

    Nothing that its pickle names is imported or called, so that an untrusted
    file may be read. To be closed, or used in a with block.

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
