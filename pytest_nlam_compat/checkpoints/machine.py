"""The part of a pickle machine that is about plain values.

Numbers, text, containers, and the memo through which they are shared.
"""

from __future__ import annotations

import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.keys import checked_key
from pytest_nlam_compat.checkpoints.limits import INTEGER_LENGTH, Budget
from pytest_nlam_compat.checkpoints.opcodes import Op
from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    DISTRUST,
    refusal,
)
from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError

# About what things take in memory, in bytes.
_CONTAINER = 150
_ENTRY = 120

_Handler = Callable[[], None]


class Machine:
    """A stack, a memo and the pickle that works on them.

    Parameters
    ----------
    content : bytes or bytearray
        The pickle.
    path : Path
        The file that it is in, for messages.
    budget : Budget
        What it may cost.
    """

    def __init__(
        self, content: bytes | bytearray, path: Path, budget: Budget
    ) -> None:
        self._content = content
        self._path = path
        self._at = 0
        self._charge = budget.charge
        self._stack: list[Any] = []
        self._below_marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def _handlers(self) -> dict[int, tuple[_Handler, int]]:
        """Return what each opcode does, and about what it costs."""
        push, take = self._push, self._take
        return {
            Op.MARK: (self._mark, 100),
            Op.BINPUT: (lambda: self._put(self._byte()), _ENTRY),
            Op.LONG_BINPUT: (lambda: self._put(self._number(4)), _ENTRY),
            Op.MEMOIZE: (lambda: self._put(len(self._memo)), _ENTRY),
            Op.BINGET: (lambda: self._get(self._byte()), 16),
            Op.LONG_BINGET: (lambda: self._get(self._number(4)), 16),
            Op.NONE: (lambda: push(None), 16),
            Op.NEWTRUE: (lambda: push(True), 16),
            Op.NEWFALSE: (lambda: push(False), 16),
            Op.BININT: (lambda: push(_signed(take(4))), 48),
            Op.BININT1: (lambda: push(self._byte()), 48),
            Op.BININT2: (lambda: push(self._number(2)), 48),
            Op.LONG1: (lambda: self._long(1), 48),
            Op.LONG4: (lambda: self._long(4), 48),
            Op.BINFLOAT: (lambda: push(_double(take(8))), 48),
            Op.BINUNICODE: (lambda: self._text(4), 16),
            Op.SHORT_BINUNICODE: (lambda: self._text(1), 16),
            Op.BINUNICODE8: (lambda: self._text(8), 16),
            Op.BINBYTES: (lambda: self._bytes(4), 16),
            Op.SHORT_BINBYTES: (lambda: self._bytes(1), 16),
            Op.BINBYTES8: (lambda: self._bytes(8), 16),
            Op.BYTEARRAY8: (self._bytearray, 16),
            Op.EMPTY_TUPLE: (lambda: push(()), 16),
            Op.TUPLE1: (lambda: self._tuple(1), 80),
            Op.TUPLE2: (lambda: self._tuple(2), 80),
            Op.TUPLE3: (lambda: self._tuple(3), 80),
            Op.TUPLE: (lambda: push(tuple(self._since_mark())), 80),
            Op.EMPTY_LIST: (lambda: push([]), _CONTAINER),
            Op.APPEND: (lambda: self._append([self._pop()]), 16),
            Op.APPENDS: (lambda: self._append(self._since_mark()), 16),
            Op.EMPTY_DICT: (lambda: push({}), _CONTAINER),
            Op.SETITEM: (lambda: self._set_items(self._pop_many(2)), 16),
            Op.SETITEMS: (lambda: self._set_items(self._since_mark()), 16),
            Op.EMPTY_SET: (lambda: push(set()), 2 * _CONTAINER),
            Op.ADDITEMS: (self._add_items, 16),
            Op.FROZENSET: (self._frozenset, 2 * _CONTAINER),
        }

    def _refuse(self, what: str, remedy: str = DISTRUST) -> CompatError:
        return refusal(
            self._path,
            f"has a data.pkl that {what}",
            remedy,
            **{"at its byte": self._at},
        )

    # The pickle and the stack.

    def _take(self, count: int) -> bytes | bytearray:
        """Return the next bytes of the pickle."""
        end = self._at + count
        if end > len(self._content):
            raise self._refuse("is cut short", COPY_AGAIN)
        piece = self._content[self._at : end]
        self._at = end
        return piece

    def _byte(self) -> int:
        return self._take(1)[0]

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise self._refuse("takes what it never put down")
        return self._stack.pop()

    def _pop_many(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise self._refuse("takes what it never put down")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _top(self) -> Any:
        if not self._stack:
            raise self._refuse("takes what it never put down")
        return self._stack[-1]

    def _mark(self) -> None:
        self._below_marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        if not self._below_marks:
            raise self._refuse("takes what it never put down")
        taken = self._stack
        self._stack = self._below_marks.pop()
        return taken

    def _put(self, index: int) -> None:
        # A second meaning for an index is legal and never written.
        if index in self._memo:
            raise self._refuse("gives one name to two objects")
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise self._refuse("uses a name that it never gave")
        self._stack.append(self._memo[index])

    # Values.

    def _long(self, width: int) -> None:
        length = self._number(width)
        if length > INTEGER_LENGTH:
            raise self._refuse(f"holds an integer of {length} bytes")
        self._charge(length)
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _text(self, width: int) -> None:
        encoded = self._take(self._number(width))
        try:
            text = encoded.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self._refuse("holds text that is not UTF-8") from None
        self._charge(sys.getsizeof(text))
        self._push(text)

    def _bytes(self, width: int) -> None:
        content = bytes(self._take(self._number(width)))
        self._charge(sys.getsizeof(content))
        self._push(content)

    def _bytearray(self) -> None:
        content = bytearray(self._take(self._number(8)))
        self._charge(sys.getsizeof(content))
        self._push(content)

    # Containers.

    def _tuple(self, count: int) -> None:
        self._push(tuple(self._pop_many(count)))

    def _append(self, values: list[Any]) -> None:
        top = self._top()
        if isinstance(top, InertObject):
            top = top.list_items
        if not isinstance(top, list):
            raise self._refuse(f"appends to a {type(top).__name__}")
        top.extend(values)

    def _set_items(self, flat: list[Any]) -> None:
        top = self._top()
        if isinstance(top, InertObject):
            top = top.dict_items
        if type(top) not in (dict, OrderedDict) or len(flat) % 2:
            raise self._refuse(f"sets items of a {type(top).__name__}")
        self._charge(len(flat) // 2 * _ENTRY)
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            top[checked_key(key)] = value

    def _add_items(self) -> None:
        members = self._since_mark()
        top = self._top()
        if not isinstance(top, set):
            raise self._refuse(f"adds members to a {type(top).__name__}")
        self._charge(len(members) * _ENTRY)
        top.update(map(checked_key, members))

    def _frozenset(self) -> None:
        members = self._since_mark()
        self._charge(len(members) * _ENTRY)
        self._push(frozenset(map(checked_key, members)))


def _signed(raw: bytes | bytearray) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _double(raw: bytes | bytearray) -> float:
    value: float = struct.unpack(">d", raw)[0]
    return value
