"""Ways through a checkpoint's tree that always end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import DISTRUST, printable, refusal

#: How deep lists, dicts and objects may be nested. Lightning needs about 10.
DEPTH = 100

#: The longest path to a part of the tree, in characters.
PATH_LENGTH = 8192

#: The parts of a tree, counting each as often as there are paths to it.
PARTS = 1_000_000

CONTAINERS = (dict, list, tuple, set, frozenset, InertObject)


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a node holds, each with its step in a path."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not isinstance(key, (str, int)):
                yield "<key>", key
            yield str(key), value
        # The metadata of a state_dict is an attribute of an OrderedDict.
        yield from getattr(node, "__dict__", {}).items()
    elif isinstance(node, (list, tuple, set, frozenset)):
        for index, value in enumerate(node):
            yield str(index), value
    elif isinstance(node, InertObject):
        yield "<class>", node.cls
        yield "<args>", node.args
        yield from children(node.dict_items)
        if isinstance(node.state, dict):
            yield from children(node.state)
        else:
            yield "<state>", node.state


def refuse_endless(root: Any, path: Path, size: int = 0) -> None:
    """Refuse a tree that nobody could walk through."""
    #: Container -> its height and the number of its parts; None while open.
    measured: dict[int, tuple[int, int] | None] = {}

    def refuse(what: str, at: str) -> CompatError:
        return refusal(path, what, DISTRUST, at=printable(at, 200))

    def measure(node: Any, at: str, depth: int) -> tuple[int, int]:
        known = measured.get(id(node), (1, 1))
        if known is None:
            raise refuse("holds an object that holds itself", at)
        if depth + known[0] > DEPTH:
            raise refuse(f"is nested more than {DEPTH} levels deep", at)
        if len(at) > PATH_LENGTH:
            raise refuse("has very long names inside of each other", at)
        if id(node) in measured:
            return known
        measured[id(node)] = None
        height, parts = 1, 1
        for step, child in children(node):
            parts += 1
            if isinstance(child, CONTAINERS):
                below, more = measure(child, join(at, step), depth + 1)
                height, parts = max(height, below + 1), parts + more
        if parts > PARTS + size:
            raise refuse("shares its parts so often that it has no end", at)
        measured[id(node)] = height, parts
        return height, parts

    if isinstance(root, CONTAINERS):
        measure(root, "", 0)


def join(path: str, step: str) -> str:
    """Return the path to what a node holds."""
    return f"{path}.{step}" if path else step
