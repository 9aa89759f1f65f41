"""The format of safetensors: a header of JSON, and the tensors behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_nlam_compat.checkpoints.arrays import Array
from pytest_nlam_compat.checkpoints.dtypes import itemsize

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
METADATA = "__metadata__"
_ALIGNMENT = 8
_LARGEST = 2**63 - 1

#: The length of the header comes first, in so many bytes.
LENGTH = 8

#: No longer than what the library itself takes.
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a header: its bytes are those from ``start`` to ``end``."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse_header(
    encoded: bytes, size: int
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Read a header.

    Parameters
    ----------
    encoded : bytes
        Without its length in front.
    size : int
        How many bytes there are behind it.

    Returns
    -------
    entries : dict of str to Entry
        In the order of the file; without gaps, and not overlapping.
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If it makes no sense, or has a type that is not known here.
    """
    try:
        header = json.loads(encoded, object_pairs_hook=_table)
    except RecursionError:
        raise ValueError("its header is nested too deep") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise ValueError("its metadata are no texts")
    entries = {name: _entry(name, raw, size) for name, raw in header.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda each: each[1].start):
        if entry.start != at:
            raise ValueError(f"{name} is not where the one before it ends")
        at = entry.end
    if at != size:
        raise ValueError("its tensors do not end where the file ends")
    return entries, metadata


def parse(content: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a file of safetensors that is in memory.

    Parameters
    ----------
    content : bytes
        All of the file.

    Returns
    -------
    tensors : dict of str to Array
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If it is damaged, or has a type that is not known here.
    """
    import numpy as np

    start = LENGTH + int.from_bytes(content[:LENGTH], "little")
    if start > len(content):
        raise ValueError("its header is cut short")
    entries, metadata = parse_header(
        content[LENGTH:start], len(content) - start
    )
    tensors = {}
    for name, entry in entries.items():
        plain = np.dtype("uint16" if entry.dtype == "bfloat16" else entry.dtype)
        values = np.frombuffer(
            content[start + entry.start : start + entry.end],
            plain.newbyteorder("<"),
        )
        values = values.astype(plain).reshape(entry.shape)
        if entry.dtype == "bfloat16":
            wide = values.astype(np.uint32) << np.uint32(16)
            values = wide.view(np.float32)
        tensors[name] = Array(values, entry.dtype, entry.dtype)
    return tensors, metadata


def header(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]],
    metadata: Mapping[str, str],
) -> bytes:
    """Write a header, with its length in front.

    Parameters
    ----------
    tensors : mapping of str to (str, tuple of int, int)
        Type, shape and size in bytes; they follow in this order.
    metadata : mapping of str to str

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If one has a type that safetensors does not have.
    """
    table: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, shape, size) in tensors.items():
        if dtype not in _NAMES:
            raise ValueError(f"safetensors has no {dtype} for {name}")
        table[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [at, at + size],
        }
        at += size
    encoded = json.dumps(table, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return len(encoded).to_bytes(LENGTH, "little") + encoded


def content_of(tensor: Array) -> bytes:
    """Return the values of a tensor as the format has them."""
    values = tensor.content()
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def serialise(
    tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> bytes:
    """Write tensors as a file of safetensors.

    Parameters
    ----------
    tensors : mapping of str to Array
    metadata : mapping of str to str

    Returns
    -------
    bytes
        All of the file.

    Raises
    ------
    ValueError
        If one has a type that safetensors does not have.
    """
    parts = {name: content_of(tensor) for name, tensor in tensors.items()}
    described = {
        name: (tensor.dtype, tensor.shape, len(parts[name]))
        for name, tensor in tensors.items()
    }
    return b"".join([header(described, metadata), *parts.values()])


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("its header has a name twice")
    return table


def _entry(name: str, raw: Any, behind: int) -> Entry:
    try:
        kind = raw["dtype"]
        dtype = _DTYPES.get(kind)
        start, end = raw["data_offsets"]
        shape = tuple(raw["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the entry of {name} makes no sense: {type(error).__name__}: "
            f"{error}"
        ) from None
    if dtype is None:
        raise ValueError(f"{name} has the unknown type {kind}")
    size = itemsize(dtype)
    for number in shape:
        if type(number) is not int or not 0 <= number <= _LARGEST:
            raise ValueError(f"{name} has a shape that makes no sense")
        size *= number
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError(f"{name} has a place that makes no sense")
    if end > behind:
        raise ValueError(f"{name} reaches beyond the end of the file")
    if size != end - start:
        raise ValueError(f"{name} has not as many bytes as its shape says")
    return Entry(dtype, shape, start, end)
