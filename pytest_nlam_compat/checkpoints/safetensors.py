"""Files of safetensors: a header of JSON, and the tensors behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.arrays import Array

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
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

    header, start = _header(content)
    metadata = header.pop(METADATA, {})
    tensors = {}
    for name, entry in header.items():
        dtype = _DTYPES.get(str(entry["dtype"]))
        if dtype is None:
            raise ValueError(f"{name} has the unknown type {entry['dtype']}")
        first, last = entry["data_offsets"]
        shape = tuple(map(int, entry["shape"]))
        if not 0 <= first <= last <= len(content) - start:
            raise ValueError(f"{name} reaches beyond the end of the file")
        plain = np.dtype("uint16" if dtype == "bfloat16" else dtype)
        count = 1
        for size in shape:
            count *= size
        if count * plain.itemsize != last - first:
            raise ValueError(f"{name} has not as many bytes as its shape says")
        values = np.frombuffer(
            content, plain.newbyteorder("<"), count, start + first
        )
        values = values.astype(plain).reshape(shape)
        if dtype == "bfloat16":
            wide = values.astype(np.uint32) << np.uint32(16)
            values = wide.view(np.float32)
        tensors[name] = Array(values, dtype, dtype)
    return tensors, {str(k): str(v) for k, v in metadata.items()}


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
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    parts = []
    at = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"safetensors has no {tensor.dtype} for {name}")
        values = tensor.content()
        part = values.astype(values.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(part)],
        }
        parts.append(part)
        at += len(part)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    return b"".join([len(encoded).to_bytes(8, "little"), encoded, *parts])


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(content[:8], "little")
    if length > len(content) - 8:
        raise ValueError("its header is cut short")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header, 8 + length
