"""Ways through a checkpoint's tree that always end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_nlam_compat.checkpoints.limits import DEPTH, PATH_LENGTH
from pytest_nlam_compat.checkpoints.refusals import (
    DISTRUST,
    printable,
    refusal,
)
from pytest_nlam_compat.checkpoints.stand_ins import InertObject, TensorRef
from pytest_nlam_compat.errors import CompatError

_CONTAINERS = (dict, list, tuple, set, frozenset, InertObject)


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a node holds, each with its step in a path.

    Parameters
    ----------
    node : object
        Any part of a checkpoint's tree; one that is no container holds
        nothing.

    Yields
    ------
    tuple of str and object
        The step (a key, an index, an attribute) and what is there.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield "<key>", key
            yield str(key), value
        # The metadata of a state_dict is an attribute of an OrderedDict.
        yield from getattr(node, "__dict__", {}).items()
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield str(index), value
    elif isinstance(node, (set, frozenset)):
        for member in node:
            yield "<member>", member
    elif isinstance(node, InertObject):
        yield "<class>", node.cls
        yield from (("<args>", part) for part in (node.args, node.kwargs))
        yield from children(node.list_items)
        yield from children(node.dict_items)
        if isinstance(node.state, dict):
            yield from children(node.state)
        else:
            yield "<state>", node.state


def refuse_endless(root: Any, path: Path) -> None:
    """Refuse a tree that holds itself somewhere, or is very deep.

    Without this, whatever walks through the tree later might never return.

    Parameters
    ----------
    root : object
        The tree.
    path : Path
        The file that it was read from, for messages.

    Raises
    ------
    CompatError
        If there is a way in it that has no end, or has more than
        `DEPTH` steps or `PATH_LENGTH` characters.
    """
    heights: dict[int, int] = {}
    on_the_way: set[int] = set()

    def refuse(what: str, at: str) -> CompatError:
        return refusal(path, what, DISTRUST, at=printable(at, 200))

    def measure(node: Any, at: str, depth: int) -> int:
        if not isinstance(node, _CONTAINERS):
            return 0
        if id(node) in on_the_way:
            raise refuse("holds an object that holds itself", at)
        if depth + heights.get(id(node), 1) > DEPTH:
            raise refuse(f"is nested more than {DEPTH} levels deep", at)
        if len(at) > PATH_LENGTH:
            raise refuse("has very long names inside of each other", at)
        if id(node) not in heights:
            on_the_way.add(id(node))
            heights[id(node)] = 1 + max(
                (
                    measure(child, _join(at, step), depth + 1)
                    for step, child in children(node)
                ),
                default=0,
            )
            on_the_way.remove(id(node))
        return heights[id(node)]

    measure(root, "", 0)


def tensors(root: Any) -> Iterator[tuple[str, TensorRef]]:
    """Yield every tensor of a tree with its path.

    Parameters
    ----------
    root : object
        A tree that `refuse_endless` let pass. A container that it holds
        twice is gone through once.

    Yields
    ------
    tuple of str and TensorRef
        The path, with dots, and the tensor.
    """
    seen: set[int] = set()

    def search(node: Any, at: str) -> Iterator[tuple[str, TensorRef]]:
        if isinstance(node, TensorRef):
            yield at, node
        elif isinstance(node, _CONTAINERS) and id(node) not in seen:
            seen.add(id(node))
            for step, child in children(node):
                yield from search(child, _join(at, step))

    return search(root, "")


def mentions(root: Any, wanted: object) -> bool:
    """Tell whether an object is anywhere in a tree.

    Parameters
    ----------
    root : object
        A tree that `refuse_endless` let pass.
    wanted : object
        What to look for; anything equal to it counts.

    Returns
    -------
    bool
        Whether it is there.
    """
    seen: set[int] = set()

    def search(node: Any) -> bool:
        if not isinstance(node, _CONTAINERS):
            return bool(node == wanted)
        if id(node) in seen:
            return False
        seen.add(id(node))
        return any(search(child) for _, child in children(node))

    return search(root)


def _join(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step
