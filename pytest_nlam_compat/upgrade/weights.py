"""Weights without a checkpoint around them: files of safetensors.

They are presented as a checkpoint that has a state_dict and nothing else. Not
read by the library, which takes a minute for some headers of a megabyte.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive, Record
from pytest_nlam_compat.checkpoints.known import LARGEST, MOST_DIMENSIONS
from pytest_nlam_compat.checkpoints.reader import Checkpoint, read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    GlobalRef,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files import refusals
from pytest_nlam_compat.files.drafts import draft
from pytest_nlam_compat.files.recognition import is_safetensors
from pytest_nlam_compat.migrations.stamps import STAMP

# About what a byte of JSON costs in memory as objects.
_OBJECTS = 12
_STORAGE = GlobalRef("torch.storage", "UntypedStorage")
_DTYPES = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "BF16": "bfloat16",
    "BOOL": "bool",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


class WeightsFile(Archive):
    """An open file of safetensors; only its header has been read."""

    def _read_records(self) -> None:
        if sys.byteorder != "little":
            what = "is little-endian, and this machine is not"
            raise self._refuse(what, refusals.SAVE_AGAIN)
        length = int.from_bytes(self.read_at(0, 8), "little")
        self.budget.charge(length * _OBJECTS)
        self.tensors: dict[str, TensorRef] = {}
        at = 8 + length
        try:
            text = self.read_at(8, length).decode()
            header = json.loads(
                text,
                object_pairs_hook=_unique,
                parse_int=_count,
                parse_float=_count,
            )
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            if not all(type(each) is str for each in self.metadata.values()):
                raise ValueError("its metadata is not text")
            # Half of a surrogate pair is text for Python alone.
            "".join([*header, *self.metadata, *self.metadata.values()]).encode()
            offsets = {n: each["data_offsets"] for n, each in header.items()}
            for name in sorted(header, key=offsets.__getitem__):
                at = self._add_tensor(name, header[name], 8 + length, at)
            if at != self.size:
                raise ValueError("its tensors do not end where the file ends")
        except (AttributeError, KeyError, TypeError, RecursionError):
            what = "its header makes no sense, or has another kind of tensor"
            raise self._damaged(what) from None
        except ValueError as error:
            raise self._damaged(str(error)) from None

    def _add_tensor(self, name: str, raw: Any, origin: int, start: int) -> int:
        """Add a tensor that is to be at the start; return its end."""
        dtype, shape = _DTYPES[raw["dtype"]], tuple(raw["shape"])
        if (
            len(name) > refusals.KEY_LENGTH
            or len(shape) > MOST_DIMENSIONS
            or not all(type(each) is int for each in shape)
            or math.prod(max(1, each) for each in shape) > LARGEST
        ):
            raise ValueError(f"the name or the shape of {name} makes no sense")
        size: int = ITEMSIZES[dtype] * math.prod(shape)
        offsets = [start - origin, start - origin + size]
        expected = {"shape": [*shape], "data_offsets": offsets}
        is_odd = bool in map(type, raw["data_offsets"])  # True equals 1
        if is_odd or raw != {"dtype": raw["dtype"], **expected}:
            raise ValueError(
                f"{name} is not where the one before it ends, or has not as "
                "many bytes as its shape says"
            )
        storage = StorageRef(self, name, _STORAGE, "uint8", size)
        self.records[storage.record] = Record(storage.record, start, size, 0)
        stride = tuple(
            math.prod(max(1, each) for each in shape[dimension + 1 :])
            for dimension in range(len(shape))
        )
        self.tensors[name] = TensorRef(storage, dtype, 0, shape, stride)
        return start + size

    def verify(self) -> None:
        """Refuse: the format has no checksums."""
        raise self._refuse(
            "is a safetensors file, and these have no checksums",
            "Omit --verify, or compare the file with one that is known to be "
            "whole.",
        )

    def _check(self, record: Record, content: bytearray | None = None) -> None:
        """Accept: the format has no checksums."""

    def _damaged(self, what: str) -> CompatError:
        what = f"is a damaged safetensors file: {refusals.printable(what, 300)}"
        return self._refuse(what, refusals.COPY_AGAIN)


class Weights(Checkpoint):
    """The weights of an open file of safetensors.

    Its ``data`` is a dict with ``state_dict``, and our record if the metadata
    of the file have one, as JSON.
    """

    def __init__(self, file: WeightsFile) -> None:
        self.path = file.path
        self.archive = self.file = file
        self.data = {"state_dict": dict(file.tensors)}
        self.globals = ()
        # What is not ours stays in the metadata.
        with contextlib.suppress(KeyError, ValueError, RecursionError):
            self.data[STAMP] = json.loads(file.metadata[STAMP])


def read_run(path: Path) -> Checkpoint:
    """Open a checkpoint, or a file of safetensors as `Weights`.

    Raises a CompatError if it is neither, damaged, or dangerous to read.
    """
    if not is_safetensors(path):
        return read_checkpoint(path)
    return Weights(WeightsFile(path))


def write_weights(
    weights: Weights, path: Path, *, overwrite: bool = False
) -> None:
    """Write weights as safetensors again, whole or not at all."""
    from safetensors.torch import save

    tensors = {}
    for name, each in weights.data["state_dict"].items():
        loaded = each.load() if isinstance(each, TensorRef) else each
        dtype = str(loaded.dtype).removeprefix("torch.")
        if dtype not in _DTYPES.values():
            what = f"can't be written: safetensors has no {dtype} for {name}"
            remedy = "Pass the checkpoint that the weights are from."
            raise refusals.refusal(path, what, remedy)
        # The library takes no views, and no two of one memory.
        tensors[name] = loaded.detach().cpu().clone().contiguous()
    metadata = dict(weights.file.metadata)
    if STAMP in weights.data:
        metadata[STAMP] = json.dumps(weights.data[STAMP])
    with draft(path, overwrite) as stream:
        stream.write(save(tensors, metadata or None))
        weights.file.refuse_changed()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("its header has a name twice")
    return table


def _count(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"its header has the number {text[:20]}")
    return int(text)
