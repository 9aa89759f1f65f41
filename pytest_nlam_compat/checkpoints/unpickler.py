"""A machine for pickles that builds stand-ins and can do nothing else.

It is not a subclass of one of the standard library's: those call what a
pickle tells them to, in a dozen places, and each would have to be found and
replaced. Here there is no import and no call to begin with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pytest_nlam_compat.checkpoints.archive import Archive
from pytest_nlam_compat.checkpoints.constructors import CONSTRUCTORS, construct
from pytest_nlam_compat.checkpoints.keys import MalformedError
from pytest_nlam_compat.checkpoints.limits import KEY_LENGTH
from pytest_nlam_compat.checkpoints.machine import Machine
from pytest_nlam_compat.checkpoints.names import python3_name
from pytest_nlam_compat.checkpoints.opcodes import REFUSED, Op
from pytest_nlam_compat.checkpoints.rebuild import storage
from pytest_nlam_compat.checkpoints.refusals import COPY_AGAIN, printable
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    How,
    InertObject,
    StorageRef,
)
from pytest_nlam_compat.checkpoints.walk import mentions, refuse_endless

_NEWEST_PROTOCOL = 5
_GETATTR = GlobalRef("builtins", "getattr")
_INSTANCE = 600
_SPENT_AT_ONCE = 100_000


class Unpickler(Machine):
    """Reads the ``data.pkl`` of an archive.

    Parameters
    ----------
    archive : Archive
        The file.

    Attributes
    ----------
    globals : dict of GlobalRef to GlobalRef
        Everything that the pickle names, in its order, used or not.
    protocol : int
        The protocol of the pickle.
    """

    def __init__(self, archive: Archive) -> None:
        archive.budget.charge(archive.records["data.pkl"].size)
        super().__init__(archive.read("data.pkl"), archive.path, archive.budget)
        self._archive = archive
        self._storages: dict[str, StorageRef] = {}
        self.globals: dict[GlobalRef, GlobalRef] = {}
        self.protocol = 0

    def load(self) -> Any:
        """Build the tree.

        Returns
        -------
        object
            Plain containers, numbers and text; `GlobalRef`, `InertObject`,
            `StorageRef` and `TensorRef` for the rest.

        Raises
        ------
        CompatError
            If the pickle is damaged, endless, or does what no pickle of
            torch.save does.
        """
        self._begin()
        handlers = self._handlers()
        content, end = self._content, len(self._content)
        stop = int(Op.STOP)
        spent = 0
        while self._at < end:
            code = content[self._at]
            self._at += 1
            if code == stop:
                break
            known = handlers.get(code)
            if known is None:
                name = REFUSED.get(code, f"0x{code:02x}")
                raise self._refuse(f"uses the opcode {name}")
            handler, cost = known
            # One call for many opcodes, since most cost little.
            spent += cost
            if spent > _SPENT_AT_ONCE:
                self._charge(spent)
                spent = 0
            try:
                handler()
            except MalformedError as error:
                what = printable(str(error), 200)
                raise self._refuse(f"holds {what}") from None
        else:
            raise self._refuse("is cut short", COPY_AGAIN)
        tree = self._pop()
        if self._stack or self._below_marks:
            raise self._refuse("leaves something behind")
        if self._at != end:
            raise self._refuse(
                "goes on after its end: a second pickle may be hidden there"
            )
        refuse_endless(tree, self._path)
        if _GETATTR in self.globals and not mentions(tree, _GETATTR):
            # It only led to the names of nested classes, listed themselves.
            del self.globals[_GETATTR]
        return tree

    def _begin(self) -> None:
        if self._content[:1] != bytes([Op.PROTO]):
            raise self._refuse("is no pickle", COPY_AGAIN)
        self._at = 1
        self.protocol = self._number(1)
        if not 2 <= self.protocol <= _NEWEST_PROTOCOL:
            raise self._refuse(f"is of the protocol {self.protocol}")

    def _handlers(self) -> dict[int, tuple[Callable[[], None], int]]:
        own: dict[int, tuple[Callable[[], None], int]] = {
            Op.FRAME: (self._frame, 0),
            Op.GLOBAL: (self._named_in_lines, 0),
            Op.STACK_GLOBAL: (self._named_on_stack, 0),
            Op.REDUCE: (self._reduce, _INSTANCE),
            Op.BUILD: (self._build, 16),
            Op.NEWOBJ: (self._newobj, _INSTANCE),
            Op.NEWOBJ_EX: (self._newobj_ex, _INSTANCE),
            Op.OBJ: (self._obj, _INSTANCE),
            Op.INST: (self._inst, _INSTANCE),
            Op.BINPERSID: (self._storage, _INSTANCE),
        }
        # By plain numbers, which are found faster than members of an enum.
        return {int(op): do for op, do in (super()._handlers() | own).items()}

    def _frame(self) -> None:
        if self._number(8) > len(self._content) - self._at:
            raise self._refuse("is cut short", COPY_AGAIN)

    # Names.

    def _named_in_lines(self) -> None:
        self._push(self._global(self._line(), self._line()))

    def _named_on_stack(self) -> None:
        module, name = self._pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise MalformedError("a name that is no text")
        self._push(self._global(module, name))

    def _line(self) -> str:
        limit = self._at + KEY_LENGTH
        end = self._content.find(b"\n", self._at, limit)
        if end < 0:
            raise MalformedError("a name without an end")
        line = self._take(end - self._at)
        self._at += 1
        return line.decode("utf-8", "replace")

    def _global(self, module: str, name: str) -> GlobalRef:
        if self.protocol < 3:
            module, name = python3_name(module, name)
        for part in (module, name):
            if not part or len(part) > KEY_LENGTH or not part.isprintable():
                raise MalformedError(f"a name that can't be one: {part}")
        found = GlobalRef(module, name)
        if found not in self.globals:
            self._charge(_INSTANCE + len(module) + len(name))
            self.globals[found] = found
        return self.globals[found]

    # Calls, none of which is made.

    def _reduce(self) -> None:
        called, args = self._pop_many(2)
        made: Any
        if isinstance(called, GlobalRef) and called in CONSTRUCTORS:
            made = construct(called, _arguments(args))
        elif (
            called == _GETATTR
            and isinstance(args, tuple)
            and len(args) == 2
            and isinstance(args[0], GlobalRef)
            and isinstance(args[1], str)
        ):
            # How protocol 2 writes the name of a nested class.
            made = self._global(args[0].module, f"{args[0].name}.{args[1]}")
        else:
            made = InertObject(
                _callee(called), _arguments(args), how=How.REDUCE
            )
        self._push(made)

    def _newobj(self) -> None:
        cls, args = self._pop_many(2)
        self._push(InertObject(_callee(cls), _arguments(args)))

    def _newobj_ex(self) -> None:
        cls, args, kwargs = self._pop_many(3)
        if not isinstance(kwargs, dict) or not all(
            isinstance(key, str) for key in kwargs
        ):
            raise MalformedError("arguments whose names are no text")
        self._push(
            InertObject(
                _callee(cls), _arguments(args), kwargs, how=How.NEWOBJ_EX
            )
        )

    def _obj(self) -> None:
        cls, *args = self._since_mark() or [None]
        self._push(InertObject(_callee(cls), tuple(args), how=How.OBJ))

    def _inst(self) -> None:
        cls = self._global(self._line(), self._line())
        self._push(InertObject(cls, tuple(self._since_mark()), how=How.OBJ))

    def _build(self) -> None:
        state = self._pop()
        top = self._top()
        if isinstance(top, InertObject) and top.state is None:
            top.state = state
        elif isinstance(top, OrderedDict) and isinstance(state, dict):
            # The _metadata of a state_dict. No method may be covered up.
            for name, value in state.items():
                if not isinstance(name, str) or hasattr(top, name):
                    raise MalformedError("an OrderedDict with a changed part")
                setattr(top, name, value)
        else:
            raise MalformedError(f"a state for a {type(top).__name__}")

    def _storage(self) -> None:
        ref = storage(self._archive, self._pop())
        if self._storages.setdefault(ref.key, ref) != ref:
            raise MalformedError(f"two descriptions of {ref.record}")
        self._push(self._storages[ref.key])


def _callee(called: Any) -> GlobalRef | InertObject:
    if not isinstance(called, (GlobalRef, InertObject)):
        raise MalformedError(f"a call of a {type(called).__name__}")
    return called


def _arguments(args: Any) -> tuple[Any, ...]:
    if not isinstance(args, tuple):
        raise MalformedError("a call without arguments")
    return args
