"""The standard library's unpickler, without imports, calls and surprises.

It is the one in Python: its handlers that would import, call or hash what a
file says are replaced, and its table has only the opcodes that torch.save
writes. What CPython's other unpickler, in C, reads differently is refused
(frames that end inside an opcode, objects that change after their use), since
torch uses that one.
"""

# ruff: noqa: D102 - the handlers have the names of the standard library.

from __future__ import annotations

import io
import pickle
import struct
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.constructors import (
    CONSTRUCTORS,
    MalformedError,
    checked_key,
    storage,
)
from pytest_nlam_compat.checkpoints.known import is_well_formed
from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    DISTRUST,
    KEY_LENGTH,
    Budget,
    printable,
    refusal,
)
from pytest_nlam_compat.checkpoints.stand_ins import (
    STORAGES,
    GlobalRef,
    How,
    InertObject,
    StorageRef,
    TensorRef,
)
from pytest_nlam_compat.checkpoints.walk import nodes, refuse_endless
from pytest_nlam_compat.errors import CompatError

_GETATTR = GlobalRef("builtins", "getattr")

#: The longest integer, in bytes. Python needs quadratic time to show one.
_INTEGER_LENGTH = 256

#: The hash of a tuple of integers is no secret: many of one hash take
#: quadratic time as keys.
_MOST_TUPLE_KEYS = 1000

# About what things take in memory, in bytes.
_VALUE = 48
_ENTRY = 120
_INSTANCE = 400
_SPENT_AT_ONCE = 100_000

_CHANGEABLE = (list, dict, set, OrderedDict, InertObject)

#: Protocol -> the opcodes that it added, as far as torch.save writes them.
_OPCODES = {
    2: b"(Nt)}]aesu.cRbXJKMGqrhjQ\x81\x85\x86\x87\x88\x89\x8a\x8b",
    3: b"BC",
    4: b"\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95",
    5: b"\x96",
}

#: Opcode -> about what it takes in memory; the others take `_VALUE`.
_COSTS = {
    **dict.fromkeys(b"]}", 150),
    **dict.fromkeys(b"\x8f\x91", 300),
    **dict.fromkeys(b"R\x81\x92", _INSTANCE),
    **dict.fromkeys(b"aesubqrhj\x90\x94\x95", 16),
}


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
        self._used: set[int] = set()
        self._tuple_keys = 0
        self.globals: dict[GlobalRef, GlobalRef] = {}

    def load(self) -> Any:
        """Return the tree: plain values, and stand-ins for the rest."""
        self.memo: list[Any] = []
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.read = self._content.read
        self.readline = self._content.readline
        if self.read(1) != pickle.PROTO:
            raise self._refuse("is no pickle", COPY_AGAIN)
        self.proto = int.from_bytes(self.read(1), "little")
        if self.proto not in _HANDLERS:
            raise self._refuse(f"is of the protocol {self.proto}")
        try:
            self._run()
            tree = self.stack.pop()
        except MalformedError as error:
            raise self._refuse(f"holds {printable(str(error), 200)}") from None
        except UnicodeDecodeError:
            raise self._refuse("holds text that is not UTF-8") from None
        except (EOFError, struct.error):
            raise self._refuse("is cut short", COPY_AGAIN) from None
        except (IndexError, pickle.UnpicklingError):
            # Of the stack, or of the bytes of an opcode at the very end.
            if not self._left() and self._last != pickle.STOP:
                raise self._refuse("is cut short", COPY_AGAIN) from None
            raise self._refuse("takes what it never put down") from None
        if self.stack or self.metastack:
            raise self._refuse("leaves something behind")
        if self._left():
            raise self._refuse(
                "goes on after its end: a second pickle may be hidden there"
            )
        self._check(tree)
        return tree

    def _run(self) -> None:
        handlers, read, at = (
            _HANDLERS[self.proto],
            self.read,
            self._content.tell,
        )
        framed, self._frame_end = self.proto >= 4, 0
        spent = begun = 0
        while True:
            self._last = read(1)
            if self._last == pickle.STOP:
                return
            if not self._last:
                raise EOFError
            if self._last not in handlers:
                raise self._refuse(f"uses the opcode {_name(self._last)}")
            handler, cost = handlers[self._last]
            # One call for many opcodes, since most cost little.
            spent += cost
            if spent > _SPENT_AT_ONCE:
                self._charge(spent)
                spent = 0
            if framed:
                begun = at() - 1
            handler(self)
            if (
                framed
                and begun < self._frame_end < at()
                and (self._last != pickle.FRAME)
            ):
                raise MalformedError("a frame that ends inside an opcode")

    def _check(self, tree: Any) -> None:
        """Look at the tree as a whole."""
        refuse_endless(tree, self._archive.path, self._size)
        for made in self._objects:
            if not is_well_formed(made):
                cls = made.cls
                while isinstance(cls, InertObject):
                    cls = cls.cls
                raise self._refuse(
                    f"makes a {printable(cls.path)} in a way in which no "
                    "checkpoint does"
                )
        if _GETATTR in self.globals and not any(
            node == _GETATTR for _, node in nodes(tree)
        ):
            # It only led to the names of nested classes, listed themselves.
            del self.globals[_GETATTR]

    def _left(self) -> int:
        return self._size - self._content.tell()

    def _refuse(self, what: str, remedy: str = DISTRUST) -> CompatError:
        return refusal(
            self._archive.path,
            f"has a data.pkl that {what}",
            remedy,
            **{"at its byte": self._content.tell()},
        )

    # Frames and the memo.

    def load_frame(self) -> None:
        length = self._number(8)
        at = self._content.tell()
        if length > self._left():
            raise EOFError
        if at - 9 < self._frame_end or not length:
            raise MalformedError("a frame inside another")
        self._frame_end = at + length

    def load_binput(self) -> None:
        self._remember(self._number(1))

    def load_long_binput(self) -> None:
        self._remember(self._number(4))

    def load_memoize(self) -> None:
        self._remember(len(self.memo))

    def _remember(self, index: int) -> None:
        if index < len(self.memo):
            raise MalformedError("one name for two objects")
        if index > len(self.memo):
            raise MalformedError("a name that is out of order")
        self.memo.append(self.stack[-1])

    def load_binget(self) -> None:
        self._recall(self._number(1))

    def load_long_binget(self) -> None:
        self._recall(self._number(4))

    def _recall(self, index: int) -> None:
        if index >= len(self.memo):
            raise MalformedError("a use of a name that it never gave")
        value = self.memo[index]
        if type(value) in _CHANGEABLE:
            self._used.add(id(value))
        self.append(value)

    # Values.

    def _number(self, width: int) -> int:
        return int.from_bytes(self.read(width), "little")

    def _take(self, width: int) -> bytes:
        """Return as many bytes as the next number says."""
        length = self._number(width)
        if length > self._left():
            raise EOFError
        content = self.read(length)
        self._charge(sys.getsizeof(content))
        return content

    def load_long1(self) -> None:
        self._integer(self._take(1))

    def load_long4(self) -> None:
        self._integer(self._take(4))

    def _integer(self, content: bytes) -> None:
        if len(content) > _INTEGER_LENGTH:
            raise MalformedError(f"an integer of {len(content)} bytes")
        self.append(int.from_bytes(content, "little", signed=True))

    def load_binunicode(self) -> None:
        self._text(self._take(4))

    def load_short_binunicode(self) -> None:
        self._text(self._take(1))

    def load_binunicode8(self) -> None:
        self._text(self._take(8))

    def _text(self, content: bytes) -> None:
        if not content.isascii():
            # One character may widen all of them.
            self._charge(3 * len(content))
        self.append(content.decode("utf-8", "surrogatepass"))

    def load_short_binbytes(self) -> None:
        self.append(self._take(1))

    def load_binbytes(self) -> None:
        self.append(self._take(4))

    def load_binbytes8(self) -> None:
        self.append(self._take(8))

    def load_bytearray8(self) -> None:
        self.append(bytearray(self._take(8)))

    # Containers.

    def _filled(self) -> Any:
        """Return the object that is being filled."""
        top = self.stack[-1]
        if id(top) in self._used:
            # It may hold itself, or have been used by a call in between.
            raise MalformedError("an object that changes after its use")
        return top

    def load_append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        top = self._filled()
        if (
            type(top) is InertObject
            and not top.dict_items
            and top.state is None
        ):
            top = top.list_items
        if type(top) is not list:
            raise MalformedError(f"items for a {type(top).__name__}")
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
            raise MalformedError(f"items with keys for a {type(top).__name__}")
        top.update(zip(self._keys(flat[::2]), flat[1::2], strict=True))

    def load_additems(self) -> None:
        members = self.pop_mark()
        top = self._filled()
        if type(top) is not set:
            raise MalformedError(f"members for a {type(top).__name__}")
        top.update(self._keys(members))

    def load_frozenset(self) -> None:
        members = self._keys(self.pop_mark())
        self.append(frozenset(members))

    def _keys(self, keys: list[Any]) -> list[Any]:
        self._charge(len(keys) * _ENTRY)
        for key in keys:
            checked_key(key)
            self._tuple_keys += type(key) is tuple
        if self._tuple_keys > _MOST_TUPLE_KEYS:
            raise MalformedError("very many keys that are tuples")
        return keys

    # Names.

    def find_class(self, module: str, name: str) -> GlobalRef:
        """Return what stands for a class or function; nothing is imported."""
        if self.proto < 3 and (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        elif self.proto < 3:
            module = IMPORT_MAPPING.get(module, module)
        if self.proto < 4 and "." in name:
            raise MalformedError(f"a name that can't be one: {name}")
        return self._global(module, name)

    def _global(self, module: str, name: str) -> GlobalRef:
        for part in (*module.split("."), *name.split(".")):
            if not part or len(part) > KEY_LENGTH or not part.isprintable():
                raise MalformedError(f"a name that can't be one: {part}")
        outer, *inner = name.split(".")
        is_storage = outer in STORAGES and outer != "UntypedStorage"
        if is_storage and (inner or module not in ("torch", "torch.cuda")):
            # torch takes it for its own, whatever the module.
            raise MalformedError(f"an unknown kind of storage: {module}.{name}")
        found = GlobalRef(module, name)
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

    # Calls, none of which is made.

    def load_reduce(self) -> None:
        args = self.stack.pop()
        called = self.stack.pop()
        is_named = isinstance(called, GlobalRef)
        if is_named and called in CONSTRUCTORS and type(args) is tuple:
            made = self._construct(called, args)
        elif called == _GETATTR and _leads_to_nested(args):
            # How protocols 2 and 3 write the name of a nested class.
            made = self._global(args[0].module, f"{args[0].name}.{args[1]}")
        else:
            made = self._make(called, args, How.REDUCE)
        self.append(made)

    def _construct(self, called: GlobalRef, args: tuple[Any, ...]) -> Any:
        function, *counts = CONSTRUCTORS[called]
        if len(args) not in counts:
            raise MalformedError(
                f"a call of {called.path} with {len(args)} arguments"
            )
        if function in (set, frozenset) and args:
            if type(args[0]) is not list:
                raise MalformedError("a set that is made of something else")
            self._keys(args[0])
        made = function(*args)
        if isinstance(made, TensorRef):
            self._tensors.charge(made.nbytes)
        return made

    def load_newobj(self) -> None:
        args = self.stack.pop()
        called = self.stack.pop()
        self.append(self._make(called, args, How.NEWOBJ))

    def load_newobj_ex(self) -> None:
        kwargs = self.stack.pop()
        args = self.stack.pop()
        made = self._make(self.stack.pop(), args, How.NEWOBJ_EX)
        if type(kwargs) is not dict or not all(
            type(key) is str for key in kwargs
        ):
            raise MalformedError("arguments whose names are no text")
        made.kwargs = kwargs
        self.append(made)

    def _make(self, called: Any, args: Any, how: How) -> InertObject:
        kinds = (GlobalRef, InertObject) if how is How.REDUCE else (GlobalRef,)
        if type(called) not in kinds:
            raise MalformedError(f"a call of a {type(called).__name__}")
        if type(args) is not tuple:
            raise MalformedError("a call without arguments")
        made = InertObject(called, args, how=how)
        self._objects.append(made)
        return made

    def load_build(self) -> None:
        state = self.stack.pop()
        top = self._filled()
        if type(top) is InertObject and top.state is None and state is not None:
            top.state = state
        elif type(top) is OrderedDict and type(state) is dict:
            # The _metadata of a state_dict. No method may be covered up.
            for name, value in state.items():
                if not isinstance(name, str) or hasattr(top, name):
                    raise MalformedError("an OrderedDict with a changed part")
                setattr(top, name, value)
        else:
            raise MalformedError(f"a state for a {type(top).__name__}")


def _leads_to_nested(args: Any) -> bool:
    return (
        type(args) is tuple
        and len(args) == 2
        and isinstance(args[0], GlobalRef)
        and isinstance(args[1], str)
        and "." not in args[1]
    )


def _name(code: bytes) -> str:
    import pickletools

    names = {opcode.code: opcode.name for opcode in pickletools.opcodes}
    return names.get(code.decode("latin-1"), f"0x{code[0]:02x}")


def _handlers(protocol: int) -> dict[bytes, tuple[Callable[[Any], None], int]]:
    """Return opcode -> its handler, found by name, and about what it takes."""
    inherited: dict[int, Any] = pickle._Unpickler.dispatch
    return {
        bytes([code]): (
            getattr(CheckpointUnpickler, inherited[code].__name__),
            _COSTS.get(code, _VALUE),
        )
        for since, codes in _OPCODES.items()
        if since <= protocol
        for code in codes
    }


_HANDLERS = {protocol: _handlers(protocol) for protocol in _OPCODES}
