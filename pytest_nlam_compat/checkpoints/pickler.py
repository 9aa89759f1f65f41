"""Writes a checkpoint's tree as the pickle that torch.save would write."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from pytest_nlam_compat.checkpoints.fresh import (
    FreshStorage,
    FreshTensor,
    FreshTensors,
)
from pytest_nlam_compat.checkpoints.names import python3_name
from pytest_nlam_compat.checkpoints.opcodes import Op
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    How,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.errors import CompatError

_PROTOCOL = 2
_ORDERED_DICT = GlobalRef("collections", "OrderedDict")
_TUPLES = {1: Op.TUPLE1, 2: Op.TUPLE2, 3: Op.TUPLE3}


class Pickler:
    """Writes one tree.

    Attributes
    ----------
    storages : list of StorageRef or FreshStorage
        What the tensors look at. The pickle calls each by its index, in the
        order in which it is first needed, as torch does.
    """

    def __init__(self) -> None:
        self.storages: list[StorageRef | FreshStorage] = []
        self._storage_keys: dict[StorageRef | FreshStorage, int] = {}
        self._out = bytearray()
        self._memo: dict[object, int] = {}
        self._kept: list[object] = []
        self._fresh = FreshTensors()
        self._protocol = _PROTOCOL

    def dump(self, tree: Any) -> bytes:
        """Write a tree.

        Parameters
        ----------
        tree : object
            As `Unpickler` builds them, with new tensors at will. What is
            shared in it stays shared.

        Returns
        -------
        bytes
            The pickle.

        Raises
        ------
        CompatError
            If something in it is neither plain nor a stand-in.
        """
        self._save(tree)
        self._out.append(Op.STOP)
        return bytes([Op.PROTO, self._protocol]) + bytes(self._out)

    def _save(self, value: Any) -> None:
        kind = type(value)
        # Text and names by what they say, all else by what it is.
        same = value if kind in (str, GlobalRef) else id(value)
        if (kind, same) in self._memo:
            self._get(self._memo[kind, same])
            return
        if value is None or kind is bool:
            self._out.append(_CONSTANTS[value])
        elif kind in (int, float):
            self._save_number(value)
        elif kind is tuple:
            self._save_tuple(value)
            self._put(value)
        elif kind is list:
            self._out.append(Op.EMPTY_LIST)
            self._put(value)
            self._items(value, Op.APPENDS)
        elif kind is dict:
            self._out.append(Op.EMPTY_DICT)
            self._put(value)
            self._pairs(value)
        elif kind is StorageRef:
            # Not memorised: a storage is called by its key each time.
            self._save_storage(value)
        else:
            self._save_other(value)

    def _save_other(self, value: Any) -> None:
        kind = type(value)
        if kind is str:
            encoded = value.encode("utf-8", "surrogatepass")
            self._out += bytes([Op.BINUNICODE]) + struct.pack(
                "<I", len(encoded)
            )
            self._out += encoded
            self._put(value)
        elif kind is GlobalRef:
            self._save_global(value)
            self._put(value)
        elif kind is OrderedDict:
            self._call(_ORDERED_DICT)
            self._put(value)
            self._pairs(value)
            if vars(value):
                self._save(vars(value))
                self._out.append(Op.BUILD)
        elif kind is InertObject:
            self._save_instance(value)
        elif kind is TensorRef:
            self._save_tensor(value)
            self._put(value)
        elif kind in _AS_CALLS:
            self._call(*_AS_CALLS[kind](value))
            self._put(value)
        else:
            fresh = self._fresh.describe(value)
            if fresh is None:
                raise CompatError(
                    f"A {kind.__module__}.{kind.__qualname__} can't be "
                    "written to a checkpoint.",
                    remedy="Use plain containers, numbers and text, tensors, "
                    "or an InertObject for any other class.",
                )
            self._save_tensor(fresh)
            self._put(value)

    # The memo.

    def _put(self, value: object) -> None:
        index = len(self._kept)
        kind = type(value)
        same = value if kind in (str, GlobalRef) else id(value)
        self._memo[kind, same] = index
        # As long as it lives nothing else can have its id.
        self._kept.append(value)
        if index < 256:
            self._out += bytes([Op.BINPUT, index])
        else:
            self._out += bytes([Op.LONG_BINPUT]) + struct.pack("<I", index)

    def _get(self, index: int) -> None:
        if index < 256:
            self._out += bytes([Op.BINGET, index])
        else:
            self._out += bytes([Op.LONG_BINGET]) + struct.pack("<I", index)

    # Numbers and containers.

    def _save_number(self, value: int | float) -> None:
        if isinstance(value, float):
            self._out += bytes([Op.BINFLOAT]) + struct.pack(">d", value)
        elif 0 <= value < 2**8:
            self._out += bytes([Op.BININT1, value])
        elif 0 <= value < 2**16:
            self._out += bytes([Op.BININT2]) + struct.pack("<H", value)
        elif -(2**31) <= value < 2**31:
            self._out += bytes([Op.BININT]) + struct.pack("<i", value)
        else:
            length = value.bit_length() // 8 + 1
            if length < 256:
                self._out += bytes([Op.LONG1, length])
            else:
                self._out += bytes([Op.LONG4]) + struct.pack("<i", length)
            self._out += value.to_bytes(length, "little", signed=True)

    def _save_tuple(self, value: tuple[Any, ...]) -> None:
        if not value:
            self._out.append(Op.EMPTY_TUPLE)
        elif len(value) in _TUPLES:
            for part in value:
                self._save(part)
            self._out.append(_TUPLES[len(value)])
        else:
            self._items(value, Op.TUPLE)

    def _items(self, values: Iterable[Any], then: Op) -> None:
        self._out.append(Op.MARK)
        for value in values:
            self._save(value)
        self._out.append(then)

    def _pairs(self, table: dict[Any, Any]) -> None:
        if table:
            flat = (part for pair in table.items() for part in pair)
            self._items(flat, Op.SETITEMS)

    # Names and calls.

    def _save_global(self, value: GlobalRef) -> None:
        outer, dot, inner = value.name.rpartition(".")
        if dot:
            # Protocol 2 has no dotted names.
            self._call(
                GlobalRef("builtins", "getattr"),
                GlobalRef(value.module, outer),
                inner,
            )
            return
        if python3_name(value.module, value.name) != (value.module, value.name):
            # In protocol 2 it would be taken for a name of Python 2.
            self._protocol = 4
        self._out.append(Op.GLOBAL)
        self._out += f"{value.module}\n{value.name}\n".encode()

    def _call(self, called: GlobalRef, *args: Any) -> None:
        self._save(called)
        self._save_tuple(args)
        self._out.append(Op.REDUCE)

    def _save_instance(self, value: InertObject) -> None:
        if value.how is How.OBJ:
            self._items((value.cls, *value.args), Op.OBJ)
        else:
            self._save(value.cls)
            self._save(value.args)
            if value.how is How.NEWOBJ_EX:
                self._protocol = 4
                self._save(value.kwargs)
            self._out.append(_HOW[value.how])
        self._put(value)
        if value.list_items:
            self._items(value.list_items, Op.APPENDS)
        self._pairs(value.dict_items)
        if value.state is not None:
            self._save(value.state)
            self._out.append(Op.BUILD)

    # Tensors.

    def _save_storage(self, storage: StorageRef | FreshStorage) -> None:
        if storage not in self._storage_keys:
            self._storage_keys[storage] = len(self.storages)
            self.storages.append(storage)
        key = str(self._storage_keys[storage])
        parts = ("storage", storage.cls, key, storage.device, storage.numel)
        self._items(parts, Op.TUPLE)
        self._out.append(Op.BINPERSID)

    def _save_tensor(self, tensor: TensorRef | FreshTensor) -> None:
        if tensor.is_parameter:
            self._save(GlobalRef("torch._utils", "_rebuild_parameter"))
            self._out.append(Op.MARK)
        version = "v3" if tensor.storage.untyped else "v2"
        self._save(GlobalRef("torch._utils", f"_rebuild_tensor_{version}"))
        self._out.append(Op.MARK)
        self._save_storage(tensor.storage)
        self._save(tensor.offset)
        self._save_tuple(tensor.shape)
        self._save_tuple(tensor.stride)
        # A parameter is a leaf around a tensor without gradient.
        self._save(tensor.requires_grad and not tensor.is_parameter)
        self._call(_ORDERED_DICT)
        if tensor.storage.untyped:
            self._save(GlobalRef("torch", tensor.dtype))
        if tensor.metadata:
            self._save(tensor.metadata)
        self._out += bytes([Op.TUPLE, Op.REDUCE])
        if tensor.is_parameter:
            self._save(tensor.requires_grad)
            self._call(_ORDERED_DICT)
            self._out += bytes([Op.TUPLE, Op.REDUCE])


_CONSTANTS = {None: Op.NONE, True: Op.NEWTRUE, False: Op.NEWFALSE}

_HOW = {
    How.REDUCE: Op.REDUCE,
    How.NEWOBJ: Op.NEWOBJ,
    How.NEWOBJ_EX: Op.NEWOBJ_EX,
}

#: Plain values that protocol 2 has no opcode for: the call for each.
_AS_CALLS: dict[type, Any] = {
    set: lambda value: (GlobalRef("builtins", "set"), list(value)),
    frozenset: lambda value: (GlobalRef("builtins", "frozenset"), list(value)),
    complex: lambda value: (
        GlobalRef("builtins", "complex"),
        value.real,
        value.imag,
    ),
    bytes: lambda value: (
        GlobalRef("_codecs", "encode"),
        value.decode("latin-1"),
        "latin1",
    ),
    bytearray: lambda value: (GlobalRef("builtins", "bytearray"), bytes(value)),
}
