"""The few calls in a pickle whose meaning is known: values and tensors.

Everything else stays a call that nobody makes.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.refusals import KEY_LENGTH
from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    STORAGES,
    GlobalRef,
    StorageRef,
    TensorRef,
)

#: Python's hash of an integer is its remainder by this: only below it no file
#: can bring many keys of one hash, which would take quadratic time.
_HASH_MODULUS = 2**61 - 1
_MOST_KEY_PARTS = 8

_MOST_DIMENSIONS = 64
_LARGEST = 2**48
_LOCATION = re.compile(r"(?!meta)[a-z]+(:[0-9]{1,3})?")
_NO_HOOKS: OrderedDict[Any, Any] = OrderedDict()
_NO_METADATA: dict[str, bool] = {}


class MalformedError(ValueError):
    """Something in a pickle that makes no sense; the text says what."""


def checked_key(key: Any) -> Any:
    """Return a key of a dict, or a member of a set, that is cheap to hash."""
    kind = type(key)
    if kind is tuple:
        if len(key) > _MOST_KEY_PARTS or any(
            type(part) is tuple for part in key
        ):
            raise MalformedError("a key that is a long or nested tuple")
        for part in key:
            checked_key(part)
    elif kind in (str, bytes):
        if len(key) > KEY_LENGTH:
            raise MalformedError(f"a key of {len(key)} characters")
    elif kind is int:
        if abs(key) >= _HASH_MODULUS:
            raise MalformedError("a key that is a very large number")
    elif key is not None and kind not in (bool, float, GlobalRef):
        raise MalformedError(f"a key that is a {kind.__name__}")
    return key


def storage(archive: Archive, pid: Any) -> StorageRef:
    """Resolve a persistent id, by which a pickle refers to a storage."""
    if not (
        type(pid) is tuple
        and len(pid) == 5
        and pid[0] == "storage"
        and isinstance(pid[1], GlobalRef)
        and all(type(part) is str for part in pid[2:4])
        and _is_count(pid[4])
    ):
        raise MalformedError("a persistent id that is not that of a storage")
    _, cls, key, device, numel = pid
    modules = (
        ["torch.storage"]
        if cls.name == "UntypedStorage"
        else ["torch", "torch.cuda"]
    )
    if cls.name not in STORAGES or cls.module not in modules:
        raise MalformedError(f"an unknown kind of storage: {cls.path}")
    if not _LOCATION.fullmatch(device):
        raise MalformedError(f"a storage on an unknown device: {device}")
    ref = StorageRef(archive, key, cls, STORAGES[cls.name], numel, device)
    record = archive.records.get(ref.record)
    if record is None:
        raise MalformedError(f"a storage that the file does not have: {key}")
    if record.size != ref.nbytes:
        raise MalformedError(
            f"a storage of {ref.nbytes} bytes whose record, {ref.record}, has "
            f"{record.size}"
        )
    return ref


def tensor(
    ref: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    metadata: Any = _NO_METADATA,
    *,
    dtype: GlobalRef | None = None,
) -> TensorRef:
    """Describe the tensor that ``_rebuild_tensor_v2`` would make."""
    if not (
        type(ref) is StorageRef
        and ref.untyped is (dtype is not None)
        and _is_count(offset)
        and all(
            type(sizes) is tuple and all(map(_is_count, sizes))
            for sizes in (shape, stride)
        )
        and len(shape) == len(stride) <= _MOST_DIMENSIONS
        and type(requires_grad) is bool
        and type(hooks) is OrderedDict
        and type(metadata) is dict
        and all(value is True for value in metadata.values())
    ):
        raise MalformedError("a tensor whose description makes no sense")
    _refuse_hooks(hooks)
    name = ref.dtype if dtype is None else dtype.name
    if name not in ITEMSIZES or (dtype is not None and dtype.module != "torch"):
        raise MalformedError(f"a tensor of an unknown type: {name}")
    is_complex = name.startswith("complex")
    _refuse_gradient(requires_grad, name)
    if not metadata.keys() <= ({"conj", "neg"} if is_complex else {"neg"}):
        raise MalformedError("a tensor with unknown properties")
    kept: Mapping[str, bool] = {}
    made = TensorRef(ref, name, offset, shape, stride, requires_grad)
    if metadata:
        kept = dict(metadata)
        made = replace(made, metadata=kept)
    # An empty tensor may begin anywhere, since it has no first element.
    sizes = math.prod(max(1, size) for size in shape)
    if made.span[1] > ref.nbytes or sizes > _LARGEST:
        raise MalformedError(
            f"a tensor that reaches beyond its storage, {ref.record}"
        )
    return made


def tensor_v3(
    ref: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = _NO_METADATA,
) -> TensorRef:
    """Describe the tensor of ``_rebuild_tensor_v3``, on an untyped storage."""
    if not isinstance(dtype, GlobalRef):
        raise MalformedError("a tensor whose description makes no sense")
    return tensor(
        *(ref, offset, shape, stride, requires_grad, hooks, metadata),
        dtype=dtype,
    )


def parameter(data: Any, requires_grad: Any, hooks: Any) -> TensorRef:
    """Describe the parameter that ``_rebuild_parameter`` would make."""
    if not (
        type(data) is TensorRef
        and not data.is_parameter
        and type(requires_grad) is bool
        and type(hooks) is OrderedDict
    ):
        raise MalformedError("a parameter whose description makes no sense")
    _refuse_hooks(hooks)
    _refuse_gradient(requires_grad, data.dtype)
    return replace(data, requires_grad=requires_grad, is_parameter=True)


def _refuse_gradient(requires_grad: bool, dtype: str) -> None:
    if requires_grad and not dtype.startswith(("float", "bfloat", "complex")):
        raise MalformedError(f"a gradient for a tensor of the type {dtype}")


def _refuse_hooks(hooks: OrderedDict[Any, Any]) -> None:
    # torch itself never saves them; they would be functions to be called.
    if hooks or vars(hooks):
        raise MalformedError("a tensor with functions hooked to it")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _encoded(text: Any, encoding: Any) -> bytes:
    # How protocol 2, which knows no bytes, writes them.
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise MalformedError("bytes that are made of something else")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise MalformedError("bytes that are no bytes") from None


def _bytearray(content: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        content = _encoded(content, encoding)
    if type(content) is not bytes:
        raise MalformedError("a bytearray that is made of something else")
    return bytearray(content)


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise MalformedError("a complex number that is made of others")
    return complex(real, imaginary)


#: The calls that are made, by this table alone and never by looking up; each
#: with the numbers of arguments that it takes. The unpickler checks the
#: members of sets.
CONSTRUCTORS: dict[GlobalRef, tuple[Any, ...]] = {
    GlobalRef("collections", "OrderedDict"): (OrderedDict, 0),
    GlobalRef("builtins", "set"): (set, 0, 1),
    GlobalRef("builtins", "frozenset"): (frozenset, 0, 1),
    GlobalRef("builtins", "bytes"): (bytes, 0),
    GlobalRef("builtins", "bytearray"): (_bytearray, 0, 1, 2),
    GlobalRef("builtins", "complex"): (_complex, 2),
    GlobalRef("_codecs", "encode"): (_encoded, 2),
    GlobalRef("torch._utils", "_rebuild_tensor_v2"): (tensor, 6, 7),
    GlobalRef("torch._utils", "_rebuild_tensor_v3"): (tensor_v3, 7, 8),
    GlobalRef("torch._utils", "_rebuild_parameter"): (parameter, 3),
}
