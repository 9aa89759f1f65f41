"""Trees of plain data and stand-ins, inspected and changed by copying.

A path names a value through dicts and stand-ins alike: ``args.hidden_dim``,
``config.training.output_clamping``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject


def is_instance_of(value: object, name: str) -> bool:
    """Tell whether `value` stands for an object of the class `name`."""
    return (
        isinstance(value, InertObject)
        and isinstance(value.cls, GlobalRef)
        and value.cls.path == name
    )


def contains_instance_of(tree: Any, name: str) -> bool:
    """Tell whether any node of a tree is an object of the class `name`."""
    found = False

    def look(value: Any) -> Any:
        nonlocal found
        found = found or is_instance_of(value, name)
        return value

    rebuild(tree, look)
    return found


def attributes(value: Any) -> dict[str, Any] | None:
    """Return what a path can step into: entries or attributes, else None."""
    if isinstance(value, dict):
        return value
    if isinstance(value, InertObject):
        return value.attributes
    return None


def find(tree: Any, path: Sequence[str]) -> tuple[bool, Any]:
    """Look up a path: whether something is there, and its value or None."""
    for step in path:
        inside = attributes(tree)
        if inside is None or step not in inside:
            return False, None
        tree = inside[step]
    return True, tree


def with_attributes(tree: Any, path: Sequence[str], new: dict[str, Any]) -> Any:
    """Copy a tree with all entries or attributes at an existing path replaced.

    `new` are those that the dict or `InertObject` has afterwards.
    """
    if path:
        inside = attributes(tree)
        assert inside is not None
        child = with_attributes(inside[path[0]], path[1:], new)
        new = {**inside, path[0]: child}
    if isinstance(tree, InertObject):
        if isinstance(tree.state, tuple):
            # With __slots__ the state is a pair, and one part the attributes.
            state: Any = tuple(
                new if part is tree.attributes else part for part in tree.state
            )
        else:
            state = new
        return replace(tree, state=state)
    copied = copy.copy(tree)
    copied.clear()
    copied.update(new)
    return copied


def rebuild(
    value: Any,
    function: Callable[[Any], Any],
    done: dict[int, Any] | None = None,
) -> Any:
    """Apply a function to each node of a tree, leaves first.

    Dicts, lists, tuples and `InertObject` are entered; everything else is a
    leaf. The tree is not changed, and nodes in which nothing changes are
    shared with the new one. `done` has results by ``id``: what is shared in
    the file is done once and stays shared.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    # Stands for itself meanwhile, so that a cycle ends.
    done[id(value)] = value
    done[id(value)] = function(_with_content(value, function, done))
    return done[id(value)]


def _with_content(
    value: Any, function: Callable[[Any], Any], done: dict[int, Any]
) -> Any:
    if isinstance(value, dict):
        content = {k: rebuild(v, function, done) for k, v in value.items()}
        if all(content[k] is v for k, v in value.items()):
            return value
        copied = copy.copy(value)
        copied.update(content)
        return copied
    if isinstance(value, (list, tuple)):
        items = [rebuild(v, function, done) for v in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, InertObject):
        parts = {
            part: rebuild(getattr(value, part), function, done)
            for part in ("args", "state", "dict_items")
        }
        if all(new is getattr(value, part) for part, new in parts.items()):
            return value
        return replace(value, **parts)
    return value
