"""Weights without a checkpoint around them: files of safetensors.

They are presented as `reader` presents a checkpoint that has a state_dict and
nothing else. The library reads and writes whole files in memory, and takes a
minute for some headers of a megabyte; what is needed here is the header.
"""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive, Record
from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    KEY_LENGTH,
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
from pytest_nlam_compat.checkpoints.writer import draft
from pytest_nlam_compat.errors import CompatError

_METADATA = "__metadata__"
_LENGTH = 8
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


class WeightsFile(Archive):
    """An open file of safetensors; only its header has been read."""

    def _read_records(self) -> None:
        length = int.from_bytes(self.read_at(0, _LENGTH), "little")
        begin = _LENGTH + length
        if length > _LONGEST_HEADER or begin > self.size:
            raise self._damaged("its header is cut short")
        self.budget.charge(length * _OBJECTS)
        self.tensors: dict[str, TensorRef] = {}
        try:
            text = self.read_at(_LENGTH, length).decode()
            header = json.loads(text, object_pairs_hook=_unique)
            self.metadata: dict[str, str] = header.pop(_METADATA, {})
            if not all(type(each) is str for each in self.metadata.values()):
                raise ValueError("its metadata is not text")
            offsets = {n: each["data_offsets"] for n, each in header.items()}
            end = 0
            for name in sorted(header, key=offsets.__getitem__):
                end = self._add_tensor(name, header[name], begin, end)
        except (AttributeError, KeyError, TypeError):
            raise self._damaged("its header makes no sense") from None
        except RecursionError:
            raise self._damaged("its header is nested too deep") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        if begin + end != self.size:
            raise self._damaged("its tensors do not end where the file ends")

    def _add_tensor(self, name: str, raw: Any, begin: int, start: int) -> int:
        """Add a tensor that is to be at the start; return its end."""
        dtype, shape = _DTYPES[raw["dtype"]], tuple(raw["shape"])
        if len(name) > KEY_LENGTH:
            raise ValueError(f"it has a name of {len(name)} characters")
        numbers = (*shape, *raw["data_offsets"])
        if (
            len(shape) > _MOST_DIMENSIONS
            or not all(type(each) is int and each >= 0 for each in numbers)
            or math.prod(max(1, each) for each in shape) > _LARGEST
        ):
            raise ValueError(f"the numbers of {name} make no sense")
        end: int = start + ITEMSIZES[dtype] * math.prod(shape)
        expected = {"shape": [*shape], "data_offsets": [start, end]}
        if raw != {"dtype": raw["dtype"], **expected}:
            raise ValueError(
                f"{name} is not where the one before it ends, or has not as "
                "many bytes as its shape says"
            )
        storage = StorageRef(self, name, _STORAGE, "uint8", end - start)
        record = Record(storage.record, begin + start, end - start, 0)
        self.records[record.name] = record
        inner = [max(1, each) for each in reversed(shape[1:])]
        steps = list(accumulate(inner, mul, initial=1))[: len(shape)]
        stride = tuple(reversed(steps))
        self.tensors[name] = TensorRef(storage, dtype, 0, shape, stride)
        return end

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

    def _check(self, record: Record, content: bytearray | None = None) -> None:
        """Accept: the format has no checksums."""

    def _damaged(self, what: str) -> CompatError:
        what = f"is a damaged safetensors file: {printable(what, 300)}"
        return refusal(self.path, what, COPY_AGAIN)


class Weights(Checkpoint):
    """The weights of an open file of safetensors.

    Its ``data`` is a dict with ``state_dict`` and, under a ``key`` of the
    file's metadata, the object that is there as JSON.
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
    """Open a checkpoint, or a file of safetensors as `Weights`.

    To be closed, or used in a with block.

    Raises
    ------
    CompatError
        If the file is neither, damaged, or dangerous to read.
    """
    if not is_safetensors(path):
        return read_checkpoint(path)
    return Weights(WeightsFile(path), key)


def write_weights(
    weights: Weights, path: Path, *, overwrite: bool = False
) -> None:
    """Write weights as safetensors again, whole or not at all.

    Raises
    ------
    CompatError
        If there is a file already, or it can't be written.
    """
    from safetensors.torch import save

    tensors = {}
    for name, each in weights.data["state_dict"].items():
        loaded = each.load() if isinstance(each, TensorRef) else each
        dtype = str(loaded.dtype).removeprefix("torch.")
        if dtype not in _DTYPES.values():
            raise refusal(
                path,
                f"can't be written: safetensors has no {dtype} for {name}",
                "Pass the checkpoint that the weights are from.",
            )
        # The library takes no views, and no two of one memory.
        tensors[name] = loaded.detach().cpu().clone().contiguous()
    metadata = dict(weights.file.metadata)
    if weights.key in weights.data:
        metadata[weights.key] = json.dumps(weights.data[weights.key])
    with draft(path, overwrite) as stream:
        stream.write(save(tensors, metadata or None))
        weights.file.refuse_changed()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("its header has a name twice")
    return table
