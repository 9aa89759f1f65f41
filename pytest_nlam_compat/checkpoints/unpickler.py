"""The standard library's unpickler, without imports, calls and surprises.

It is the one in Python: its handlers that would import, call or hash what a
file says are replaced, and it has only the opcodes that torch.save writes, in
protocol 2. What CPython's other unpickler, in C, reads differently is refused
(objects that change after their use), since torch uses that one.
"""

# ruff: noqa: D102 - the handlers have the names of the standard library.

from __future__ import annotations

import io
import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.known import (
    KNOWN,
    MalformedError,
    checked_keys,
    is_well_formed,
    make,
    odd_numbers,
    storage,
)
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.walk import refuse_endless
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import (
    CONVERT,
    COPY_AGAIN,
    DISTRUST,
    KEY_LENGTH,
    SAVE_AGAIN,
    Budget,
    printable,
    refusal,
)

# About what things take in memory, in bytes.
_VALUE = 48
_ENTRY = 120
_INSTANCE = 400
# Not memory, but time: of a thousand such keys, one dict takes half a second.
_ODD = 64 * 1024

_CHANGEABLE = (list, dict, OrderedDict, InertObject)

#: The opcodes that torch.save writes -> about what each takes in memory.
_OPCODES = {
    **dict.fromkeys(b"(Nt)cKXJMG\x85\x86\x87\x88\x89\x8a\x8bQ", _VALUE),
    **dict.fromkeys(b"aesubqrhj", 16),
    **dict.fromkeys(b"]}", 150),
    **dict.fromkeys(b"R\x81", _INSTANCE),
}


class _Memo:
    """The objects that the pickle has numbered, and which of them it used."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self.used: set[int] = set()

    def __setitem__(self, index: int, value: Any) -> None:
        if index != len(self._values):
            raise MalformedError("a name that is out of order")
        self._values.append(value)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self._values):
            raise MalformedError("a use of a name that it never gave")
        value = self._values[index]
        if type(value) in _CHANGEABLE:
            self.used.add(id(value))
        return value


class CheckpointUnpickler(pickle._Unpickler):
    """Reads the ``data.pkl`` of an archive."""

    # What the standard library has besides, and typeshed does not know.
    pop_mark: Callable[[], list[Any]]

    def __init__(self, archive: Archive) -> None:
        self._size = archive.records["data.pkl"].size
        archive.budget.charge(self._size)
        self._content = io.BytesIO(archive.read("data.pkl"))
        super().__init__(self._content)
        self._archive = archive
        self._charge = archive.budget.charge
        # What tensors take when they are loaded, each on its own.
        self._tensors = Budget(archive.path, archive.size)
        self._storages: dict[str, StorageRef] = {}
        self._objects: list[InertObject] = []
        self.globals: dict[GlobalRef, GlobalRef] = {}

    def load(self) -> Any:
        """Return the tree: plain values, and stand-ins for the rest."""
        self.memo = _Memo()
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.read = self._content.read
        self.readline = self._content.readline
        if self.read(1) != pickle.PROTO:
            raise self._refuse("is no pickle", COPY_AGAIN)
        protocol = int.from_bytes(self.read(1), "little")
        if protocol != 2:
            remedy = SAVE_AGAIN if 3 <= protocol <= 5 else DISTRUST
            raise self._refuse(f"is of pickle protocol {protocol}", remedy)
        try:
            tree = self._run()
        except MalformedError as error:
            what = f"holds {printable(str(error), 200)}"
            raise self._refuse(what, error.remedy) from None
        except UnicodeDecodeError:
            raise self._refuse("holds text that is not UTF-8") from None
        except (EOFError, struct.error, IndexError, pickle.UnpicklingError):
            # Of the bytes of an opcode at the very end, or of the stack.
            if self._left() or self._last == pickle.STOP:
                raise self._refuse("takes what it never put down") from None
            raise self._refuse("is cut short", COPY_AGAIN) from None
        if self.stack or self.metastack:
            raise self._refuse("leaves something behind")
        if self._left():
            what = "goes on after its end: a second pickle may be hidden there"
            raise self._refuse(what)
        refuse_endless(tree, self._archive.path, self._size)
        for made in self._objects:
            if not is_well_formed(made):
                what = f"makes a {printable(made.cls.path)} in a way in which"
                raise self._refuse(f"{what} no checkpoint does")
        return tree

    def _run(self) -> Any:
        self._last = b""
        while (code := self.read(1)) in _HANDLERS:
            handler, cost = _HANDLERS[code]
            self._charge(cost)
            handler(self)
        self._last = code
        if code == pickle.STOP:
            return self.stack.pop()
        if not code:
            raise EOFError
        raise self._refuse(f"uses the opcode {_name(code)}")

    def _left(self) -> int:
        return self._size - self._content.tell()

    def _refuse(self, what: str, remedy: str = DISTRUST) -> CompatError:
        what, place = f"has a data.pkl that {what}", self._content.tell()
        path = self._archive.path
        return refusal(path, what, remedy, **{"at its byte": place})

    # Values.

    def load_long4(self) -> None:
        # Python needs quadratic time to show long ones.
        raise MalformedError("an integer of more than 255 bytes", CONVERT)

    def load_binunicode(self) -> None:
        content = self.read(int.from_bytes(self.read(4), "little"))
        # One character may widen all of them.
        self._charge(len(content) * (1 if content.isascii() else 4))
        self.append(content.decode("utf-8", "surrogatepass"))

    # Containers.

    def _filled(self) -> Any:
        """Return the object that is being filled."""
        top = self.stack[-1]
        if id(top) in self.memo.used:
            # It may hold itself, or have been used by a call in between.
            raise MalformedError("an object that changes after its use")
        return top

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        top = self._filled()
        if type(top) is not list:
            raise MalformedError(f"items for a {_title(top)}", CONVERT)
        top.extend(values)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        self._set_items([self.stack.pop(), value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, flat: list[Any]) -> None:
        top = self._filled()
        if type(top) is InertObject and top.state is None:
            top = top.dict_items
        if type(top) not in (dict, OrderedDict) or len(flat) % 2:
            raise MalformedError(f"items with keys for a {_title(top)}")
        keys = checked_keys(flat[::2])
        self._charge(len(keys) * _ENTRY + odd_numbers(keys, len(top)) * _ODD)
        top.update(zip(keys, flat[1::2], strict=True))

    # Names.

    def find_class(self, module: str, name: str) -> GlobalRef:
        """Return what stands for a class or function; nothing is imported."""
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        else:
            module = IMPORT_MAPPING.get(module, module)
        for part in (*module.split("."), name):
            is_name = part.isprintable() and "." not in part
            if not part or len(part) > KEY_LENGTH or not is_name:
                raise MalformedError(f"a name that can't be one: {part}")
        found = GlobalRef(module, name)
        if name.endswith("Storage") and found not in KNOWN:
            # torch has its own for some, whatever the module.
            what = f"an unknown kind of storage: {found.path}"
            raise MalformedError(what, CONVERT)
        if found not in self.globals:
            self._charge(_INSTANCE + len(module) + len(name))
        return self.globals.setdefault(found, found)

    def persistent_load(self, pid: Any) -> StorageRef:
        """Return the storage that a persistent id means."""
        ref = storage(self._archive, pid)
        known = self._storages.setdefault(ref.key, ref)
        if (known.cls, known.device) != (ref.cls, ref.device):
            raise MalformedError(f"two descriptions of {ref.record}")
        return known

    # Calls, of which only those of the table are made.

    def load_reduce(self) -> None:
        self._call(True)

    def load_newobj(self) -> None:
        self._call(False)

    def _call(self, is_call: bool) -> None:
        args = self.stack.pop()
        called = self.stack.pop()
        if type(called) is not GlobalRef:
            raise MalformedError(f"a call of a {_title(called)}")
        if type(args) is not tuple:
            raise MalformedError("a call without arguments")
        made: Any
        if is_call and KNOWN.get(called, ("", ""))[1] == "value":
            # Many calls may share one long argument.
            for each in args:
                if type(each) is list:
                    self._charge(len(each) * _ENTRY + odd_numbers(each) * _ODD)
                elif type(each) is str:
                    self._charge(len(each))
            made = make(called, args)
        else:
            made = InertObject(called, args, is_call=is_call)
            self._objects.append(made)
        if isinstance(made, TensorRef):
            self._tensors.charge(made.nbytes)
        self.append(made)

    def load_build(self) -> None:
        state = self.stack.pop()
        top = self._filled()
        if type(top) is InertObject and top.state is None and state is not None:
            top.state = state
        elif type(top) is OrderedDict and type(state) is dict:
            # The _metadata of a state_dict. No method may be covered up.
            self._charge(len(state) * _ENTRY)
            for name, value in state.items():
                if not isinstance(name, str) or hasattr(top, name):
                    raise MalformedError("an OrderedDict with a changed part")
                setattr(top, name, value)
        else:
            raise MalformedError(f"a state for a {_title(top)}")


def _title(value: Any) -> str:
    kind = type(value)
    return value.cls.path if kind is InertObject else kind.__name__


def _name(code: bytes) -> str:
    import pickletools

    names = {opcode.code: opcode.name for opcode in pickletools.opcodes}
    return names.get(code.decode("latin-1"), f"0x{code[0]:02x}")


#: Opcode -> its handler, found by name, and about what it takes.
_HANDLERS: dict[bytes, tuple[Callable[[Any], None], int]] = {
    bytes([code]): (
        getattr(CheckpointUnpickler, pickle._Unpickler.dispatch[code].__name__),
        cost,
    )
    for code, cost in _OPCODES.items()
}
