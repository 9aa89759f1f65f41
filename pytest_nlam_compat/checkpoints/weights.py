"""Weights without a checkpoint around them: files of safetensors.

They are given as what `reader` gives of a checkpoint that has a state_dict and
nothing else, so that all that goes by names goes the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.copying import Copies, Progress, write_at
from pytest_nlam_compat.checkpoints.draft import (
    Draft,
    refuse_existing,
    unwritable,
)
from pytest_nlam_compat.checkpoints.limits import KEY_LENGTH, Budget
from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    SAVE_AGAIN,
    printable,
    refusal,
)
from pytest_nlam_compat.checkpoints.safetensors import (
    LENGTH,
    LONGEST_HEADER,
    header,
    parse_header,
)
from pytest_nlam_compat.checkpoints.sniff import is_safetensors, open_regular
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.zipformat import Record
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    import torch

# About what a byte of JSON costs in memory as objects.
_OBJECTS = 12
_STORAGE = GlobalRef("torch.storage", "UntypedStorage")


class WeightsFile(Archive):
    """An open file of safetensors; nothing but its header has been read.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    records : dict of str to Record
        By name with ``data/`` in front.
    tensors : dict of str to TensorRef
        By name.
    metadata : dict of str to str

    Raises
    ------
    CompatError
        If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = ""
        self.byteorder = "little"
        self._stream = open_regular(path)
        try:
            self.size = os.fstat(self.fileno()).st_size
            self.budget = Budget(path, self.size)
            self._read_header()
        except BaseException:
            self._stream.close()
            raise

    def _read_header(self) -> None:
        length = int.from_bytes(self.read_at(0, LENGTH), "little")
        behind = self.size - LENGTH - length
        if length > LONGEST_HEADER or behind < 0:
            raise _damaged(self.path, "its header is cut short")
        self.budget.charge(length * _OBJECTS)
        try:
            entries, self.metadata = parse_header(
                self.read_at(LENGTH, length), behind
            )
        except ValueError as error:
            raise _damaged(self.path, str(error)) from None
        self.records: dict[str, Record] = {}
        self.tensors: dict[str, TensorRef] = {}
        for name, entry in entries.items():
            if len(name) > KEY_LENGTH:
                raise _damaged(
                    self.path, f"it has a name of {len(name)} characters"
                )
            record = f"data/{name}"
            self.records[record] = Record(
                record,
                LENGTH + length + entry.start,
                entry.end - entry.start,
                0,
            )
            storage = StorageRef(
                self, name, _STORAGE, "uint8", entry.end - entry.start, "cpu"
            )
            stride: list[int] = []
            step = 1
            for size in reversed(entry.shape):
                stride.insert(0, step)
                step *= max(size, 1)
            self.tensors[name] = TensorRef(
                storage, entry.dtype, 0, entry.shape, tuple(stride)
            )

    def read(self, name: str) -> bytearray:
        """Read the bytes of a tensor; there is no checksum of them."""
        content = bytearray()
        for chunk in self.chunks(name):
            content += chunk
        return content

    def checksum(self, name: str) -> int:
        """Compute a checksum of a tensor, by reading it."""
        import zlib

        crc = 0
        for chunk in self.chunks(name):
            crc = zlib.crc32(chunk, crc)
        return crc

    def verify(self) -> None:
        """Refuse: the format has no checksums."""
        raise refusal(
            self.path,
            "is a safetensors file, and these have no checksums",
            "Leave --verify out, or compare the file with one that is known "
            "to be whole.",
        )


class Weights(Checkpoint):
    """The weights of an open file of safetensors.

    Parameters
    ----------
    file : WeightsFile
    key : str
        Of the metadata whose JSON is part of the tree, under the same name.

    Attributes
    ----------
    data : dict
        ``state_dict``, and what is under the key.
    """

    def __init__(self, file: WeightsFile, key: str) -> None:
        self.path = file.path
        self.archive = self.file = file
        self.key = key
        self.data = {"state_dict": dict(file.tensors)}
        self.globals = ()
        # What is not ours stays in the metadata.
        with contextlib.suppress(KeyError, ValueError, RecursionError):
            self.data[key] = json.loads(file.metadata[key])


def read_run(path: Path, key: str) -> Checkpoint:
    """Open a checkpoint, or a file of safetensors.

    Parameters
    ----------
    path : Path
    key : str
        As for `Weights`.

    Returns
    -------
    Checkpoint
        `Weights` for a file of safetensors. To be closed, or used in a with
        block.

    Raises
    ------
    CompatError
        If the file is neither, damaged, or dangerous to read.
    """
    if not is_safetensors(path):
        return read_checkpoint(path)
    file = WeightsFile(path)
    try:
        return Weights(file, key)
    except BaseException:
        file.close()
        raise


def write_weights(
    weights: Weights,
    path: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write weights as safetensors again, whole or not at all.

    Parameters
    ----------
    weights : Weights
        Open. Its ``state_dict`` may have a ``torch.Tensor`` for a tensor.
    path : Path
        Where to; no link.
    overwrite : bool, optional
        Whether there may be a file already, which is then replaced.
    progress : callable, optional
        As for `writer.write_checkpoint`.

    Raises
    ------
    CompatError
        If there is a file already, or it can't be written.
    """
    table: Mapping[str, TensorRef | torch.Tensor] = weights.data["state_dict"]
    _refuse_byteorder(weights.path)
    metadata = dict(weights.file.metadata)
    if weights.key in weights.data:
        metadata[weights.key] = json.dumps(weights.data[weights.key])
    fresh = {
        name: _content(tensor)
        for name, tensor in table.items()
        if not isinstance(tensor, TensorRef)
    }
    try:
        head = header(
            {
                name: (
                    str(tensor.dtype).removeprefix("torch."),
                    tensor.shape,
                    len(fresh[name]) if name in fresh else tensor.nbytes,
                )
                for name, tensor in table.items()
            },
            metadata,
        )
    except ValueError as error:
        raise CompatError(
            f"{printable(path.name)} can't be written.",
            facts={"cause": error},
            remedy="Give the checkpoint that the weights are from.",
        ) from None
    if not overwrite:
        refuse_existing(path)
    draft = None
    try:
        draft = Draft(path)
        copies = Copies(draft.stream)
        write_at(draft.stream, head, 0)
        at = len(head)
        for name, tensor in table.items():
            if not isinstance(tensor, TensorRef):
                write_at(draft.stream, fresh[name], at)
                at += len(fresh[name])
            else:
                copies.add(weights.archive, tensor.storage.record, at)
                at += tensor.nbytes
        copies.run(progress=progress)
        draft.place(overwrite)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if draft:
            draft.close()


def _content(tensor: torch.Tensor) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _refuse_byteorder(path: Path) -> None:
    if sys.byteorder != "little":
        raise refusal(
            path, "is of the other byte order than this machine", SAVE_AGAIN
        )


def _damaged(path: Path, what: str) -> CompatError:
    return refusal(
        path,
        f"is a damaged safetensors file: {printable(what, 300)}",
        COPY_AGAIN,
    )
