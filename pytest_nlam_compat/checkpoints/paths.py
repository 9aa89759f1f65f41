"""Getting at a part of a checkpoint's tree by its path.

Dicts, lists and the attributes of stand-ins are walked alike, so that
``hyper_parameters.args.hidden_dim`` works whether ``args`` is a Namespace,
a dataclass or a dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_nlam_compat.checkpoints.refusals import printable
from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError

_MOST_NAMES_SHOWN = 12


class _Missing:
    """The type of `MISSING`."""


#: Given as a default, it makes a missing part an error.
MISSING = _Missing()


def get_path(root: Any, path: str, default: Any = MISSING) -> Any:
    """Return a part of a tree.

    Parameters
    ----------
    root : object
        The tree, or a part of one.
    path : str
        Names and indices with dots between them. A name may have dots
        itself, as those of a state_dict have: the longest that fits is
        taken.
    default : object, optional
        What to return if there is no such part.

    Returns
    -------
    object
        The part itself, not a copy.

    Raises
    ------
    CompatError
        If there is no such part and no default.

    Examples
    --------
    >>> get_path({"args": {"hidden_dim": 64}}, "args.hidden_dim")
    64
    >>> get_path({"state": [{"grid.0.weight": 1.5}]}, "state.0.grid.0.weight")
    1.5
    """
    node = root
    left = path.split(".")
    while left:
        for table, key, count in _candidates(node, left):
            node = table[key]
            left = left[count:]
            break
        else:
            if not isinstance(default, _Missing):
                return default
            raise _no_such_part(node, path, ".".join(left))
    return node


def set_path(root: Any, path: str, value: Any) -> None:
    """Put a value at a place in a tree.

    Parameters
    ----------
    root : object
        The tree, or a part of one; it is changed.
    path : str
        As for `get_path`. All but its end must be there. If the end is not,
        it is added, with what is left of the path as its name.
    value : object
        What to put there.

    Raises
    ------
    CompatError
        If there is no such place.
    """
    node = root
    left = path.split(".")
    while True:
        for table, key, count in _candidates(node, left):
            if count == len(left):
                table[key] = value
                return
            node = table[key]
            left = left[count:]
            break
        else:
            break
    if isinstance(node, InertObject) and node.state is None:
        node.state = {}
    # A name with dots is right for a state_dict only, where names have some.
    dotted_table = isinstance(node, dict) and any(
        isinstance(key, str) and "." in key for key in node
    )
    tables = [table for table in _tables(node) if isinstance(table, dict)]
    if not tables or (len(left) > 1 and not dotted_table):
        raise _no_such_part(node, path, ".".join(left))
    tables[0][".".join(left)] = value


def _candidates(node: Any, left: list[str]) -> Iterator[tuple[Any, Any, int]]:
    """Yield where the next step may lead: table, key, parts of the path."""
    for table in _tables(node):
        if isinstance(table, dict):
            for count in range(len(left), 0, -1):
                key = ".".join(left[:count])
                if key in table:
                    yield table, key, count
            if left[0].isdecimal() and int(left[0]) in table:
                yield table, int(left[0]), 1
        elif left[0].isdecimal() and int(left[0]) < len(table):
            yield table, int(left[0]), 1


def _tables(
    node: Any,
) -> Iterator[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    """Yield the dicts and sequences in which a node keeps its parts."""
    if isinstance(node, (dict, list, tuple)):
        yield node
    elif isinstance(node, InertObject):
        # A class with __slots__ has a pair: of its __dict__ and its slots.
        states = node.state if isinstance(node.state, tuple) else (node.state,)
        yield from (part for part in states if isinstance(part, dict))
        yield node.dict_items
        yield node.list_items


def _no_such_part(node: Any, path: str, rest: str) -> CompatError:
    names = [
        printable(str(key))
        for table in _tables(node)
        if isinstance(table, dict)
        for key in table
    ]
    shown = ", ".join(names[:_MOST_NAMES_SHOWN]) or "nothing with a name"
    more = len(names) - _MOST_NAMES_SHOWN
    return CompatError(
        f"The checkpoint has no {printable(path, 200)}.",
        facts={
            "missing": printable(rest, 200),
            "there is": f"{shown} and {more} more" if more > 0 else shown,
        },
        remedy="See what it has with nlam-compat inspect.",
    )
