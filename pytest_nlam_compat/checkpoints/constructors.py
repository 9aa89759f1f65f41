"""The few calls in a pickle whose meaning is known here.

Plain containers and tensors: everything else stays a call that nobody makes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from pytest_nlam_compat.checkpoints.keys import MalformedError, checked_key
from pytest_nlam_compat.checkpoints.rebuild import parameter, tensor, tensor_v3
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    # A list of pairs is what pickles of protocol 1 and of Python 2 give.
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
    ):
        raise MalformedError("an OrderedDict that is made of something else")
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def _set(members: Any = ()) -> set[Any]:
    if not isinstance(members, (list, tuple)):
        raise MalformedError("a set that is made of something else")
    return {checked_key(member) for member in members}


def _frozenset(members: Any = ()) -> frozenset[Any]:
    return frozenset(_set(members))


def _encoded(text: Any, encoding: Any) -> bytes:
    # How protocol 2, which knows no bytes, writes them.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise MalformedError("bytes that are made of something else")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise MalformedError("bytes that are no bytes") from None


def _bytes() -> bytes:
    return b""


def _bytearray(content: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        content = _encoded(content, encoding)
    if not isinstance(content, bytes):
        raise MalformedError("a bytearray that is made of something else")
    return bytearray(content)


def _complex(real: Any, imaginary: Any) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise MalformedError("a complex number that is made of others")
    return complex(real, imaginary)


#: The calls that are made, by this table alone and never by looking up: with
#: the fewest and the most arguments that each takes.
CONSTRUCTORS: dict[GlobalRef, tuple[Callable[..., Any], int, int]] = {
    GlobalRef("collections", "OrderedDict"): (_ordered_dict, 0, 1),
    GlobalRef("builtins", "set"): (_set, 0, 1),
    GlobalRef("builtins", "frozenset"): (_frozenset, 0, 1),
    GlobalRef("builtins", "bytes"): (_bytes, 0, 0),
    GlobalRef("builtins", "bytearray"): (_bytearray, 0, 2),
    GlobalRef("builtins", "complex"): (_complex, 2, 2),
    GlobalRef("_codecs", "encode"): (_encoded, 2, 2),
    GlobalRef("torch._utils", "_rebuild_tensor"): (tensor, 4, 4),
    GlobalRef("torch._utils", "_rebuild_tensor_v2"): (tensor, 6, 7),
    GlobalRef("torch._utils", "_rebuild_tensor_v3"): (tensor_v3, 7, 8),
    GlobalRef("torch._utils", "_rebuild_parameter"): (parameter, 3, 3),
}


def construct(cls: GlobalRef, args: tuple[Any, ...]) -> Any:
    """Make what a known call makes.

    Parameters
    ----------
    cls : GlobalRef
        A key of `CONSTRUCTORS`.
    args : tuple
        What the pickle gives it.

    Returns
    -------
    object
        A plain container, number, bytes or `TensorRef`.

    Raises
    ------
    MalformedError
        If the arguments are not what it takes.
    """
    function, fewest, most = CONSTRUCTORS[cls]
    if not fewest <= len(args) <= most:
        raise MalformedError(f"a call of {cls.path} with {len(args)} arguments")
    return function(*args)
