"""Writes a checkpoint's tree as the pickle that torch.save would write."""

from __future__ import annotations

import io
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    QUANTIZED,
    GlobalRef,
    How,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    import torch

_ORDERED_DICT = GlobalRef("collections", "OrderedDict")
_GETATTR = GlobalRef("builtins", "getattr")
_PARAMETER = GlobalRef("torch._utils", "_rebuild_parameter")
_TYPED = GlobalRef("torch._utils", "_rebuild_tensor_v2")
_UNTYPED = GlobalRef("torch._utils", "_rebuild_tensor_v3")

_OPCODES = {
    How.REDUCE: pickle.REDUCE,
    How.NEWOBJ: pickle.NEWOBJ,
    How.NEWOBJ_EX: pickle.NEWOBJ_EX,
}

#: Plain values that protocol 2 has no opcode for: the call for each.
_AS_CALLS: dict[type, Callable[[Any], tuple[GlobalRef, tuple[Any, ...]]]] = {
    set: lambda value: (GlobalRef("builtins", "set"), (list(value),)),
    frozenset: lambda value: (
        GlobalRef("builtins", "frozenset"),
        (list(value),),
    ),
    complex: lambda value: (
        GlobalRef("builtins", "complex"),
        (value.real, value.imag),
    ),
    bytes: lambda value: (
        GlobalRef("_codecs", "encode"),
        (value.decode("latin-1"), "latin1"),
    ),
    bytearray: lambda value: (
        GlobalRef("builtins", "bytearray"),
        (bytes(value),),
    ),
}


class _BeyondProtocol2Error(Exception):
    """Something in the tree can't be written in protocol 2."""


def dump(tree: Any) -> tuple[bytes, list[StorageRef | torch.UntypedStorage]]:
    """Write a tree.

    Parameters
    ----------
    tree : object
        As `CheckpointUnpickler` builds them, with ``torch.Tensor`` too. What
        is shared in it stays shared.

    Returns
    -------
    pickle : bytes
        In the protocol of torch.save, if it can express the tree.
    storages : list of StorageRef or torch.UntypedStorage
        The bytes of the tensors. The pickle refers to each by its index.

    Raises
    ------
    CompatError
        If something in it is neither plain nor a stand-in.
    """
    for protocol in (2, 4):
        out = io.BytesIO()
        pickler = CheckpointPickler(out, protocol)
        try:
            pickler.dump(tree)
        except _BeyondProtocol2Error:
            continue
        return out.getvalue(), pickler.storages
    raise AssertionError("protocol 4 has no limits")


class CheckpointPickler(pickle._Pickler):
    """The standard library's pickler, for stand-ins."""

    # What the standard library has besides, and typeshed does not know.
    proto: int
    memo: dict[int, Any]
    write: Callable[[bytes], object]
    memoize: Callable[[object], None]

    def __init__(self, out: io.BytesIO, protocol: int) -> None:
        super().__init__(out, protocol)
        self.storages: list[StorageRef | torch.UntypedStorage] = []
        self._keys: dict[int, str] = {}
        self._dtypes: dict[int, torch.dtype] = {}
        self._globals: dict[GlobalRef, GlobalRef] = {}

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        """Write a value, if it is of a kind that checkpoints have."""
        kind = type(value)
        if kind in _AS_CALLS and id(value) not in self.memo:
            self._save_call(*_AS_CALLS[kind](value), value)
        elif kind in self.dispatch or id(value) in self.memo:
            super().save(value, False)  # type: ignore[misc]
        else:
            self._save_of_torch(value)

    def _save_call(
        self, function: GlobalRef, args: tuple[Any, ...], made: object
    ) -> None:
        self.save(function)
        self.save(args)
        self.write(pickle.REDUCE)
        self.memoize(made)

    def _save_items(self, values: Iterable[Any], then: bytes) -> None:
        self.write(pickle.MARK)
        for value in values:
            self.save(value)
        self.write(then)

    def _save_pairs(self, table: dict[Any, Any]) -> None:
        if table:
            flat = (part for pair in table.items() for part in pair)
            self._save_items(flat, pickle.SETITEMS)

    def _save_global(self, value: GlobalRef) -> None:
        known = self._globals.setdefault(value, value)
        if id(known) in self.memo:
            self.save(known)
            return
        module, name = value.module, value.name
        outer, dot, inner = name.rpartition(".")
        if self.proto >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
            self.memoize(value)
        elif module in IMPORT_MAPPING or (module, name) in NAME_MAPPING:
            # It would be read as a name of Python 2.
            raise _BeyondProtocol2Error
        elif dot:
            args = (GlobalRef(module, outer), inner)
            self._save_call(_GETATTR, args, value)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            self.memoize(value)

    def _save_object(self, value: InertObject) -> None:
        self.save(value.cls)
        self.save(value.args)
        if value.how is How.NEWOBJ_EX:
            if self.proto < 4:
                raise _BeyondProtocol2Error
            self.save(value.kwargs)
        self.write(_OPCODES[value.how])
        self.memoize(value)
        if value.list_items:
            self._save_items(value.list_items, pickle.APPENDS)
        self._save_pairs(value.dict_items)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    def _save_ordered_dict(self, value: OrderedDict[Any, Any]) -> None:
        self._save_call(_ORDERED_DICT, (), value)
        self._save_pairs(value)
        if vars(value):
            self.save(vars(value))
            self.write(pickle.BUILD)

    # Tensors.

    def _save_tensor(self, value: TensorRef) -> None:
        untyped = value.storage.untyped
        # A parameter is a leaf around a tensor without gradient.
        requires_grad = value.requires_grad and not value.is_parameter
        function, args = (
            _UNTYPED if untyped else _TYPED,
            (
                *(value.storage, value.offset, value.shape, value.stride),
                *(requires_grad, OrderedDict()),
                *([GlobalRef("torch", value.dtype)] if untyped else []),
                *([dict(value.metadata)] if value.metadata else []),
            ),
        )
        if not value.is_parameter:
            self._save_call(function, args, value)
            return
        self.save(_PARAMETER)
        self.write(pickle.MARK)
        self._save_call(function, args, object())
        self.save(value.requires_grad)
        self.save(OrderedDict())
        self.write(pickle.TUPLE + pickle.REDUCE)
        self.memoize(value)

    def _save_storage(self, value: StorageRef) -> None:
        key = self._key(id(value), value)
        self._save_pid(value.cls, key, value.device, value.numel)

    def _key(
        self, same: int, storage: StorageRef | torch.UntypedStorage
    ) -> str:
        if same not in self._keys:
            self._keys[same] = str(len(self.storages))
            self.storages.append(storage)
        return self._keys[same]

    def _save_pid(self, *parts: Any) -> None:
        self.save(("storage", *parts))
        self.write(pickle.BINPERSID)

    def _save_of_torch(self, value: Any) -> None:
        """Write a tensor that is in memory, or what torch makes of one."""
        # Whoever has a tensor has imported torch; we need not.
        torch = sys.modules.get("torch")
        if torch is None:
            raise _unwritable(value)
        if isinstance(value, torch.dtype):
            self.save(GlobalRef("torch", str(value).removeprefix("torch.")))
        elif isinstance(value, torch.storage.TypedStorage):
            memory = value._untyped_storage
            if (
                self._dtypes.setdefault(memory._cdata, value.dtype)
                != value.dtype
            ):
                raise _unwritable(value, f"{value.dtype} view of another type")
            cls = GlobalRef("torch", value._pickle_storage_type())
            key = self._key(memory._cdata, memory)
            self._save_pid(cls, key, "cpu", value._size())
        elif isinstance(value, torch.UntypedStorage):
            cls = GlobalRef("torch.storage", "UntypedStorage")
            key = self._key(value._cdata, value)
            self._save_pid(cls, key, "cpu", value.nbytes())
        elif isinstance(value, torch.Tensor):
            function, args = _plain(value).__reduce_ex__(2)  # type: ignore[no-untyped-call]
            name = GlobalRef(function.__module__, function.__name__)
            if name not in (_TYPED, _UNTYPED, _PARAMETER):
                raise _unwritable(value)
            self._save_call(name, args, value)
        else:
            raise _unwritable(value)

    dispatch: ClassVar[dict[type, Callable[..., None]]] = {
        **{
            kind: pickle._Pickler.dispatch[kind]
            for kind in (NoneType, bool, int, float, str, tuple, list, dict)
        },
        GlobalRef: _save_global,
        InertObject: _save_object,
        OrderedDict: _save_ordered_dict,
        TensorRef: _save_tensor,
        StorageRef: _save_storage,
    }


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the CPU; refuse the kinds that are no plain memory."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if (
        type(tensor) not in (torch.Tensor, torch.nn.Parameter)
        or tensor.layout is not torch.strided
        or tensor.device.type == "meta"
        or dtype in QUANTIZED
        or dtype not in ITEMSIZES
    ):
        raise _unwritable(tensor, f"{type(tensor).__name__} of type {dtype}")
    if tensor.device.type == "cpu":
        return tensor
    moved = tensor.detach().cpu().requires_grad_(tensor.requires_grad)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(moved, tensor.requires_grad)
    return moved


def _unwritable(value: object, what: str = "") -> CompatError:
    kind = type(value)
    what = what or f"{kind.__module__}.{kind.__qualname__}"
    return CompatError(
        f"A {what} can't be written to a checkpoint.",
        remedy="Use plain containers, numbers and text, dense tensors, or an "
        "InertObject for any other class.",
    )
