"""Compare our reader of checkpoints with those of torch and CPython.

Whatever ours accepts, torch (miniz, and CPython's unpickler in C) must read as
the same tree, and CPython's zipfile as the same records; what is written from
it, all must read the same. Payloads are inert: torch gets a pickle module that
makes recorders of all classes but those of plain values and tensors.
"""

from __future__ import annotations

import _codecs
import collections
import io
import pickle
import types
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import Any

import torch

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.inspection import tensors

# torch.load, without harm.


class Recording(type):
    """Makes classes whose objects remember how they were made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = cls.__new__(cls, *args, **kwargs)
        made.is_call = True
        return made


class Recorder(metaclass=Recording):
    path: tuple[str, str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Recorder:
        made = object.__new__(cls)
        made.cls, made.args, made.kwargs = cls, args, kwargs
        made.is_call = False
        made.state, made.list_items, made.dict_items = None, [], {}
        return made

    def __call__(self, *args: Any) -> Recorder:
        made = Recorder.__new__(Recorder, *args)
        made.cls, made.is_call = self, True
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:
        self.list_items.append(value)

    def extend(self, values: Any) -> None:
        self.list_items.extend(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.dict_items[key] = value


REAL = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _codecs.encode,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, bytes)},
    **{
        ("torch", name): value
        for name, value in vars(torch).items()
        if isinstance(value, torch.dtype)
    },
}
MADE: dict[tuple[str, str], Any] = {}


def found(module: str, name: str) -> Any:
    path = module, name
    if path in REAL:
        return REAL[path]
    if path not in MADE:
        MADE[path] = Recording(name, (Recorder,), {"path": path})
    return MADE[path]


def path_of(value: Any) -> tuple[str, str] | None:
    if isinstance(value, Recording):
        return value.path
    for path, real in REAL.items():
        if real is value:
            return path
    return None


class Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, **options: Any) -> None:
        self._protocol = file.getbuffer()[1]
        super().__init__(file, **options)

    def find_class(self, module: str, name: str) -> Any:
        if self._protocol < 3:
            if (module, name) in NAME_MAPPING:
                module, name = NAME_MAPPING[module, name]
            else:
                module = IMPORT_MAPPING.get(module, module)
        return found(module, name)


INERT = types.SimpleNamespace(
    __name__="inert", Unpickler=Unpickler, load=None, UnpicklingError=Exception
)


def load_with_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=INERT
        )


# Comparing.


class DifferentError(AssertionError):
    """Ours and theirs are not the same tree."""


class Comparison:
    """Compares one pair of trees, and what is shared in each."""

    def __init__(self) -> None:
        self._pairs: dict[int, int] = {}
        self._kept: list[Any] = []

    def same(self, ours: Any, theirs: Any, at: str = "") -> None:
        if isinstance(ours, GlobalRef):
            path = path_of(theirs)
            storage = getattr(theirs, "dtype", None) if path is None else None
            if path != (ours.module, ours.name) and (
                storage is None or "Storage" not in ours.name
            ):
                self._fail(at, ours, theirs)
            return
        if isinstance(
            ours,
            (list, dict, set, frozenset, bytearray, InertObject, TensorRef),
        ):
            self._kept += [ours, theirs]
            known = self._pairs.setdefault(id(ours), id(theirs))
            if known != id(theirs):
                self._fail(at, "shared", "not shared")
            if len(self._kept) > 100_000:
                self._fail(at, "endless", "")
        compare = _COMPARE.get(type(ours), Comparison._plain)
        compare(self, ours, theirs, at)

    def _fail(self, at: str, ours: Any, theirs: Any) -> None:
        raise DifferentError(f"{at}: {ours!r:.200} / {theirs!r:.200}")

    def _plain(self, ours: Any, theirs: Any, at: str) -> None:
        if type(ours) is not type(theirs) or repr(ours) != repr(theirs):
            self._fail(at, ours, theirs)

    def _sequence(self, ours: Any, theirs: Any, at: str) -> None:
        if type(ours) is not type(theirs) or len(ours) != len(theirs):
            self._fail(at, ours, theirs)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            self.same(one, other, f"{at}.{index}")

    def _table(self, ours: Any, theirs: Any, at: str) -> None:
        if type(ours) is not type(theirs):
            self._fail(at, ours, theirs)
        self._sequence(list(ours.items()), list(theirs.items()), at)
        extra = getattr(ours, "__dict__", {}), getattr(theirs, "__dict__", {})
        self._sequence(list(extra[0].items()), list(extra[1].items()), at)

    def _set(self, ours: Any, theirs: Any, at: str) -> None:
        def names(members: Any) -> list[str]:
            return sorted(
                repr(
                    (each.module, each.name)
                    if isinstance(each, GlobalRef)
                    else path_of(each) or each
                )
                for each in members
            )

        if type(ours) is not type(theirs) or names(ours) != names(theirs):
            self._fail(at, ours, theirs)

    def _object(self, ours: InertObject, theirs: Any, at: str) -> None:
        if (
            not isinstance(theirs, Recorder)
            or ours.is_call is not theirs.is_call
        ):
            self._fail(at, ours, theirs)
        if theirs.kwargs or theirs.list_items:
            self._fail(at, ours, theirs)
        for name in ("cls", "args", "state"):
            self.same(getattr(ours, name), getattr(theirs, name), at + name)
        self._table(ours.dict_items, theirs.dict_items, at)

    def _storage(self, ours: StorageRef, theirs: Any, at: str) -> None:
        content = ours.archive.read(ours.record)
        if bytes(content) != bytes(theirs._untyped_storage):
            self._fail(at, ours, theirs)

    def _tensor(self, ours: TensorRef, theirs: Any, at: str) -> None:
        if not isinstance(theirs, torch.Tensor):
            self._fail(at, ours, theirs)
        mine = ours.load()
        alike = [
            (
                type(each),
                each.dtype,
                each.shape,
                each.stride(),
                each.requires_grad,
                each.is_conj(),
                each.is_neg(),
                bool(each._backward_hooks),
                _bytes(each) if each.numel() < 10_000 else None,
            )
            for each in (mine, theirs)
        ]
        if alike[0] != alike[1] or ours.offset != theirs.storage_offset():
            self._fail(at, alike[0], alike[1])


def _bytes(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg()
    # contiguous() would keep the strides of a single element.
    plain = plain.clone(memory_format=torch.contiguous_format)
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


_COMPARE: dict[type, Any] = {
    list: Comparison._sequence,
    tuple: Comparison._sequence,
    dict: Comparison._table,
    collections.OrderedDict: Comparison._table,
    set: Comparison._set,
    frozenset: Comparison._set,
    InertObject: Comparison._object,
    StorageRef: Comparison._storage,
    TensorRef: Comparison._tensor,
}


def compare_records(archive: Archive) -> None:
    with zipfile.ZipFile(archive.path) as theirs:
        found = {name: theirs.read(name) for name in theirs.namelist()}
    if found != {
        f"{archive.folder}/{name}": archive.read(name)
        for name in archive.records
    }:
        raise DifferentError(f"records: {list(found)!r:.200}")


def check(content: bytes, folder: Path) -> bool:
    """Compare the readers on one file; return whether ours accepts it."""
    path, again = folder / "mutated.ckpt", folder / "written.ckpt"
    path.write_bytes(content)
    try:
        checkpoint = read_checkpoint(path)
    except CompatError:
        return False
    with checkpoint:
        try:
            for ref in tensors(checkpoint.data).values():
                ref.load()
            checkpoint.archive.verify()
        except CompatError:
            return False
        compare_records(checkpoint.archive)
        theirs = load_with_torch(path)
        Comparison().same(checkpoint.data, theirs)
        write_checkpoint(checkpoint.data, again, overwrite=True)
    written = load_with_torch(again)
    with read_checkpoint(again) as checkpoint:
        Comparison().same(checkpoint.data, theirs)
        Comparison().same(checkpoint.data, written)
    return True
