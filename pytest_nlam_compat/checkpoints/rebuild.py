"""The calls in a pickle that make storages and tensors."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.dtypes import DTYPES, STORAGES, itemsize
from pytest_nlam_compat.checkpoints.keys import MalformedError
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    StorageRef,
    TensorRef,
)

_LARGEST = 2**63 - 1
_MOST_DIMENSIONS = 64
_NO_HOOKS: OrderedDict[Any, Any] = OrderedDict()
_NO_METADATA: dict[str, bool] = {}


def storage(archive: Archive, pid: Any) -> StorageRef:
    """Resolve a persistent id, by which a pickle refers to a storage.

    Parameters
    ----------
    archive : Archive
        The file that the pickle is in.
    pid : object
        What the pickle gives: ``("storage", cls, key, location, numel)``.

    Returns
    -------
    StorageRef
        The bytes meant; they are in the file, and as many as it says.

    Raises
    ------
    MalformedError
        If it is anything else.
    """
    if not (
        isinstance(pid, tuple)
        and len(pid) == 5
        and pid[0] == "storage"
        and isinstance(pid[1], GlobalRef)
        and all(isinstance(part, str) for part in pid[2:4])
        and _is_count(pid[4])
    ):
        raise MalformedError("a persistent id that is not that of a storage")
    _, cls, key, device, numel = pid
    if cls.name not in STORAGES or cls.module.split(".")[0] != "torch":
        raise MalformedError(f"an unknown kind of storage: {cls.path}")
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
    requires_grad: Any = False,
    hooks: Any = _NO_HOOKS,
    metadata: Any = _NO_METADATA,
    *,
    dtype: GlobalRef | None = None,
) -> TensorRef:
    """Describe the tensor that ``_rebuild_tensor_v2`` would make.

    Parameters
    ----------
    ref, offset, shape, stride, requires_grad, hooks, metadata : object
        What the pickle gives.
    dtype : GlobalRef, optional
        Its element type, such as ``torch.uint16``, if not the storage's.

    Returns
    -------
    TensorRef
        A tensor that lies within its storage.

    Raises
    ------
    MalformedError
        If there can be no such tensor.
    """
    if not (
        isinstance(ref, StorageRef)
        and _is_count(offset)
        and all(
            isinstance(sizes, tuple) and all(map(_is_count, sizes))
            for sizes in (shape, stride)
        )
        and len(shape) == len(stride) <= _MOST_DIMENSIONS
        and isinstance(requires_grad, bool)
        and isinstance(hooks, OrderedDict)
        and isinstance(metadata, dict)
        and all(type(bit) is bool for bit in metadata.values())
    ):
        raise MalformedError("a tensor whose description makes no sense")
    _refuse_hooks(hooks)
    name = ref.dtype if dtype is None else dtype.name
    if name not in DTYPES or (dtype is not None and dtype.module != "torch"):
        raise MalformedError(f"a tensor of an unknown type: {name}")
    made = TensorRef(
        storage=ref,
        dtype=name,
        offset=offset,
        shape=shape,
        stride=stride,
        requires_grad=requires_grad,
        metadata=dict(metadata),
    )
    if requires_grad and not name.startswith(("float", "bfloat", "complex")):
        raise MalformedError(f"a gradient for a tensor of the type {name}")
    last = offset + sum(
        (size - 1) * step for size, step in zip(shape, stride, strict=True)
    )
    # An empty tensor may begin anywhere, since it has no first element.
    within = 0 in shape or (last + 1) * itemsize(name) <= ref.nbytes
    if not within or made.nbytes > _LARGEST:
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
    """Describe the tensor that ``_rebuild_tensor_v3`` would make.

    As `tensor`, over an untyped storage.
    """
    if not isinstance(dtype, GlobalRef):
        raise MalformedError("a tensor whose description makes no sense")
    return tensor(
        ref,
        offset,
        shape,
        stride,
        requires_grad,
        hooks,
        metadata,
        dtype=dtype,
    )


def parameter(data: Any, requires_grad: Any, hooks: Any) -> TensorRef:
    """Describe the parameter that ``_rebuild_parameter`` would make.

    Parameters
    ----------
    data, requires_grad, hooks : object
        What the pickle gives.

    Returns
    -------
    TensorRef
        The same tensor, as a parameter.

    Raises
    ------
    MalformedError
        If there can be no such parameter.
    """
    if not (
        isinstance(data, TensorRef)
        and isinstance(requires_grad, bool)
        and isinstance(hooks, OrderedDict)
    ):
        raise MalformedError("a parameter whose description makes no sense")
    _refuse_hooks(hooks)
    return replace(data, requires_grad=requires_grad, is_parameter=True)


def _refuse_hooks(hooks: OrderedDict[Any, Any]) -> None:
    # torch itself never saves them; they would be functions to be called.
    if hooks:
        raise MalformedError("a tensor with functions hooked to it")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST
