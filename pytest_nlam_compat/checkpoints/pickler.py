"""Writes a checkpoint's tree as the pickle that torch.save would write."""

from __future__ import annotations

import io
import os
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_nlam_compat.checkpoints.stand_ins import (
    STORAGES,
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    import torch

_STORAGE_CLASSES = {
    dtype: GlobalRef("torch", name) for name, dtype in STORAGES.items()
}

# Python 3.13 names the module of paths as no other, and a path of another
# system can't be built here: its pure class can.
_FOREIGN_PATH = "WindowsPath" if os.name == "posix" else "PosixPath"


def portable(named: GlobalRef) -> GlobalRef:
    """Return a class that has the place of another where it can't be loaded.

    >>> portable(GlobalRef("pathlib._local", "PurePath")).path
    'pathlib.PurePath'
    """
    if named.module not in ("pathlib", "pathlib._local"):
        return named
    name = f"Pure{named.name}" if named.name == _FOREIGN_PATH else named.name
    return GlobalRef("pathlib", name)


class CheckpointPickler(pickle._Pickler):
    """The standard library's pickler, for stand-ins and tensors.

    Without `keep_device`, all storages are said to have been on the CPU.
    """

    # What the standard library has besides, and typeshed does not know.
    memo: dict[int, tuple[int, object]]
    get: Callable[[int], bytes]
    write: Callable[[bytes], object]
    memoize: Callable[[object], None]

    def __init__(self, keep_device: bool) -> None:
        self._out = io.BytesIO()
        super().__init__(self._out, 2)
        self._keep_device = keep_device
        self.storages: list[StorageRef | torch.UntypedStorage] = []
        #: By the identity of a reference: its key, and what is in memory.
        self._keys: dict[int, str] = {}
        self._contents: dict[int, torch.UntypedStorage] = {}
        #: By the address of a tensor's memory.
        self._memories: dict[int, StorageRef] = {}
        self._globals: dict[GlobalRef, GlobalRef] = {}
        # Whoever has a tensor has imported torch; we need not.
        torch = sys.modules.get("torch")
        if torch is not None:
            self.dispatch = {  # type: ignore[misc]
                **self.dispatch,
                torch.Tensor: CheckpointPickler._save_tensor,
                torch.nn.Parameter: CheckpointPickler._save_tensor,
            }

    def dumps(self, tree: Any) -> bytes:
        """Return a tree as a pickle that refers to `storages` by their index.

        What is neither plain, nor a stand-in, nor a dense tensor is refused.
        """
        self.dump(tree)
        return self._out.getvalue()

    def save(self, value: Any) -> None:
        """Write a value; refuse what would be written by its own methods."""
        known = self.memo.get(id(value))
        if known is not None:
            self.write(self.get(known[0]))
        elif type(value) in self.dispatch:
            self.dispatch[type(value)](self, value)
        else:
            raise _unwritable(value)

    def _save_storage(self, value: StorageRef) -> None:
        """Write a storage as a persistent id."""
        if id(value) not in self._keys:
            self._keys[id(value)] = str(len(self.storages))
            self.storages.append(self._contents.get(id(value), value))
        key = self._keys[id(value)]
        cls, device = value.cls, value.device
        if not self._keep_device:
            # torch.cuda has storages of its own, by the same names.
            cls, device = GlobalRef("torch", cls.name), "cpu"
        self.save(("storage", cls, key, device, value.numel))
        self.write(pickle.BINPERSID)

    def _save_call(
        self, module: str, function: str, args: tuple[Any, ...], made: object
    ) -> None:
        self.save(GlobalRef(module, function))
        self.save(args)
        self.write(pickle.REDUCE)
        self.memoize(made)

    def _save_items(self, table: dict[Any, Any]) -> None:
        if table:
            self.write(pickle.MARK)
            for key, value in table.items():
                self.save(key)
                self.save(value)
            self.write(pickle.SETITEMS)

    def _save_set(self, value: Any) -> None:
        kind = type(value).__name__
        self._save_call("builtins", kind, (list(value),), value)

    def _save_bytes(self, value: bytes) -> None:
        args = (value.decode("latin-1"), "latin1")
        self._save_call("_codecs", "encode", args, value)

    def _save_ordered_dict(self, value: OrderedDict[Any, Any]) -> None:
        self._save_call("collections", "OrderedDict", (), value)
        self._save_items(value)
        if vars(value):
            self.save(vars(value))
            self.write(pickle.BUILD)

    def _save_global(self, value: GlobalRef) -> None:
        written = portable(value)
        known = self._globals.setdefault(written, written)
        if known is not value:
            self.save(known)
            return
        module, name = value.module, value.name
        is_old = module in IMPORT_MAPPING or (module, name) in NAME_MAPPING
        if is_old or "." in name:
            # It would be read as a name of Python 2, or not at all.
            raise _unwritable(value, f"class of the name {value.path}")
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(value)

    def _save_object(self, value: InertObject) -> None:
        self.save(value.cls)
        self.save(value.args)
        self.write(pickle.REDUCE if value.is_call else pickle.NEWOBJ)
        self.memoize(value)
        self._save_items(value.dict_items)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    def _save_tensor(self, value: TensorRef | torch.Tensor) -> None:
        ref = value if isinstance(value, TensorRef) else self._describe(value)
        if ref.storage.cls.name not in STORAGES:
            raise _unwritable(value, f"tensor in a {ref.storage.cls.path}")
        function = "_rebuild_tensor_v2"
        args: tuple[Any, ...] = (
            *(ref.storage, ref.offset, ref.shape, ref.stride),
            *(ref.requires_grad, OrderedDict()),
        )
        if ref.is_parameter:
            # A parameter is a leaf around a tensor without gradient.
            inner = replace(ref, requires_grad=False, is_parameter=False)
            function, args = "_rebuild_parameter", (inner, *args[-2:])
        self._save_call("torch._utils", function, args, value)

    def _describe(self, value: torch.Tensor) -> TensorRef:
        """Describe a tensor in memory, on a reference to all of its storage."""
        import torch

        name = str(value.dtype).removeprefix("torch.")
        is_dense = value.layout is torch.strided and not value.is_meta
        is_special = value.is_conj() or value.is_neg() or bool(vars(value))
        if not is_dense or is_special or name not in _STORAGE_CLASSES:
            raise _unwritable(value, f"{type(value).__name__} of type {name}")
        memory: Any = value.untyped_storage()
        if memory._cdata not in self._memories:
            cls, numel = _STORAGE_CLASSES[name], memory.nbytes()
            numel //= value.itemsize
            nowhere: Any = None
            storage = StorageRef(nowhere, "", cls, name, numel)
            self._memories[memory._cdata] = storage
            self._contents[id(storage)] = memory.cpu()
        storage = self._memories[memory._cdata]
        if storage.dtype != name:
            raise _unwritable(value, f"{value.dtype} view of another type")
        place = int(value.storage_offset()), tuple(value.shape), value.stride()
        is_parameter = isinstance(value, torch.nn.Parameter)
        return TensorRef(
            storage, name, *place, value.requires_grad, is_parameter
        )

    dispatch: ClassVar[dict[type, Callable[..., None]]] = {
        **{
            kind: pickle._Pickler.dispatch[kind]
            for kind in (NoneType, bool, int, float, str, tuple, list, dict)
        },
        set: _save_set,
        frozenset: _save_set,
        bytes: _save_bytes,
        OrderedDict: _save_ordered_dict,
        GlobalRef: _save_global,
        InertObject: _save_object,
        StorageRef: _save_storage,
        TensorRef: _save_tensor,
    }


def _unwritable(value: object, what: str = "") -> CompatError:
    kind = type(value)
    what = what or f"{kind.__module__}.{kind.__qualname__}"
    return CompatError(
        f"A {what} can't be written to a checkpoint.",
        remedy="Use plain containers, numbers and text, dense tensors, or an "
        "InertObject for any other class.",
    )
