"""Parts of a checkpoint as plain data, for JSON and a terminal."""

from __future__ import annotations

from typing import Any

from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    InertObject,
    StorageRef,
    TensorRef,
)

_LONGEST_TEXT = 200
_MOST_ITEMS = 200


def plain(value: Any) -> Any:
    """Convert any part of a checkpoint's tree to what JSON has.

    Returns
    -------
    object
        Dicts, lists, numbers and printable text. Classes become their names,
        objects their attributes, tensors their shape and type; what is very
        long is cut.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        # JSON has neither infinity nor not-a-number.
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, str):
        return printable(value, _LONGEST_TEXT)
    if isinstance(value, dict):
        items = list(value.items())[:_MOST_ITEMS]
        return {_key(key): plain(item) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in list(value)[:_MOST_ITEMS]]
    if isinstance(value, InertObject):
        return _object(value)
    if isinstance(value, GlobalRef):
        return printable(value.path, _LONGEST_TEXT)
    if isinstance(value, TensorRef):
        return f"tensor {list(value.shape)} {value.dtype}"
    if isinstance(value, StorageRef):
        return f"storage of {value.nbytes} bytes"
    return printable(repr(value), _LONGEST_TEXT)


def flat(tree: Any) -> dict[str, Any]:
    """Return the plain values in dicts and objects by their dotted paths."""
    found: dict[str, Any] = {}

    def visit(node: Any, path: str) -> None:
        children = node.attributes if isinstance(node, InertObject) else node
        if isinstance(children, dict) and children:
            for key, value in children.items():
                visit(value, f"{path}.{_key(key)}" if path else _key(key))
        elif path:
            found[path] = plain(node)

    visit(tree, "")
    return found


def _object(value: InertObject) -> Any:
    if value.attributes:
        return plain(value.attributes)
    arguments = [plain(argument) for argument in value.args]
    if len(arguments) == 1:
        # A class around one value, such as a str subclass or a path.
        return arguments[0]
    name = getattr(value.cls, "path", "object")
    return f"{printable(name)}({', '.join(map(str, arguments))})"


def _key(key: Any) -> str:
    return printable(key if isinstance(key, str) else str(plain(key)))
