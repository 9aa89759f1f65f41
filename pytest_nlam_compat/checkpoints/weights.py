"""Weights without a checkpoint around them: files of safetensors.

They are presented as `reader` presents a checkpoint that has a state_dict and
nothing else. The library reads and writes whole files in memory, and takes a
minute for some headers of a megabyte; what is needed here is the header.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.draft import draft
from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    KEY_LENGTH,
    SAVE_AGAIN,
    is_safetensors,
    printable,
    refusal,
)
from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    GlobalRef,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.zipformat import Record
from pytest_nlam_compat.checkpoints.zipwriter import (
    Progress,
    copy_bytes,
    write_all,
)
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    import torch

_METADATA = "__metadata__"
_LENGTH = 8
_ALIGNMENT = 8
_LONGEST_HEADER = 100_000_000
_LARGEST = 2**48
_MOST_DIMENSIONS = 64
# About what a byte of JSON costs in memory as objects.
_OBJECTS = 12
_STORAGE = GlobalRef("torch.storage", "UntypedStorage")
_DTYPES = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "BF16": "bfloat16",
    "BOOL": "bool",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "C64": "complex64",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class WeightsFile(Archive):
    """An open file of safetensors; only its header has been read.

    Attributes
    ----------
    records : dict of str to Record
        By name with ``data/`` in front.
    tensors : dict of str to TensorRef
        By name, in the order of the header.
    metadata : dict of str to str
    """

    def _read_records(self) -> None:
        length = int.from_bytes(self.read_at(0, _LENGTH), "little")
        self._begin = _LENGTH + length
        if length > _LONGEST_HEADER or self._begin > self.size:
            raise self._damaged("its header is cut short")
        self.budget.charge(length * _OBJECTS)
        self.tensors: dict[str, TensorRef] = {}
        try:
            header = json.loads(
                self.read_at(_LENGTH, length), object_pairs_hook=_table
            )
            if not isinstance(header, dict):
                raise ValueError("its header is no table")
            self.metadata = header.pop(_METADATA, {})
            if not isinstance(self.metadata, dict) or not all(
                isinstance(value, str) for value in self.metadata.values()
            ):
                raise ValueError("its metadata is no table of texts")
            for name, raw in header.items():
                self._add(name, raw)
        except RecursionError:
            raise self._damaged("its header is nested too deep") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        self._refuse_gaps()

    def _add(self, name: str, raw: Any) -> None:
        """Add the tensor that an entry of the header describes."""
        try:
            dtype = _DTYPES[raw["dtype"]]
            start, end = raw["data_offsets"]
            shape = tuple(raw["shape"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"the entry of {name} makes no sense") from None
        if len(shape) > _MOST_DIMENSIONS or not all(
            type(number) is int and 0 <= number <= _LARGEST
            for number in (*shape, start, end)
        ):
            raise ValueError(f"the numbers of {name} make no sense")
        if end - start != ITEMSIZES[dtype] * math.prod(shape):
            raise ValueError(f"{name} has not as many bytes as its shape says")
        if len(name) > KEY_LENGTH:
            raise ValueError(f"it has a name of {len(name)} characters")
        record = f"data/{name}"
        self.records[record] = Record(
            record, self._begin + start, end - start, 0
        )
        storage = StorageRef(self, name, _STORAGE, "uint8", end - start)
        strides = [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * max(1, size))
        stride = tuple(strides[len(strides) - len(shape) :])
        self.tensors[name] = TensorRef(storage, dtype, 0, shape, stride)

    def _refuse_gaps(self) -> None:
        at = self._begin
        for record in sorted(
            self.records.values(), key=lambda each: (each.start, each.size)
        ):
            if record.start != at:
                raise self._damaged(
                    f"{record.name} is not where the one before it ends"
                )
            at += record.size
        if at != self.size:
            raise self._damaged("its tensors do not end where the file ends")

    def checksum(self, name: str) -> int:
        """Compute a checksum of a tensor, by reading it; the file has none."""
        return zlib.crc32(self.read(name))

    def verify(self) -> None:
        """Refuse: the format has no checksums."""
        raise refusal(
            self.path,
            "is a safetensors file, and these have no checksums",
            "Omit --verify, or compare the file with one that is known to be "
            "whole.",
        )

    def _check(self, name: str, crc: int) -> None:
        self._verified.add(name)

    def _damaged(self, what: str) -> CompatError:
        return refusal(
            self.path,
            f"is a damaged safetensors file: {printable(what, 300)}",
            COPY_AGAIN,
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
    return Weights(WeightsFile(path), key)


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
    if sys.byteorder != "little":
        raise refusal(
            weights.path,
            "is of the other byte order than this machine",
            SAVE_AGAIN,
        )
    metadata = dict(weights.file.metadata)
    if weights.key in weights.data:
        metadata[weights.key] = json.dumps(weights.data[weights.key])
    header: dict[str, Any] = {_METADATA: metadata} if metadata else {}
    whole = 0
    for name, tensor in weights.data["state_dict"].items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in _NAMES:
            raise CompatError(
                f"{printable(path.name)} can't be written.",
                facts={"cause": f"safetensors has no {dtype} for {name}"},
                remedy="Pass the checkpoint that the weights are from.",
            )
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [whole, whole + tensor.nbytes],
        }
        whole += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, whole)

    with draft(path, overwrite) as stream:
        write_all(stream, len(encoded).to_bytes(_LENGTH, "little") + encoded)
        for tensor in weights.data["state_dict"].values():
            if isinstance(tensor, TensorRef):
                record = weights.file.records[tensor.storage.record]
                copy_bytes(
                    *(weights.file, record.start, record.size),
                    *(stream, advance),
                )
            else:
                write_all(stream, _content(tensor))
                advance(tensor.nbytes)
        weights.file.refuse_changed()


def _content(tensor: torch.Tensor) -> bytes:
    """Return the elements of a tensor in order."""
    import torch

    flat = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return flat.reshape(-1).view(torch.uint8).numpy().tobytes()


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("its header has a name twice")
    return table
