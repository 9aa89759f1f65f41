"""Patterns over the dot-separated segments of parameter names.

A pattern names a module or a tensor: ``g2m_gnn.grid_mlp`` covers
``g2m_gnn.grid_mlp.0.weight``, never ``g2m_gnn.grid_mlp_extra.0.weight``. A
``*`` stands for any text within one segment, of one character at least, and a
segment ``**`` for any number of segments, none too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple


class Match(NamedTuple):
    """How a pattern covers a name.

    `captured` is what each ``*`` stands for, and `rest` what follows the
    pattern in the name: ``""`` or ``".0.weight"``.
    """

    captured: tuple[str, ...]
    rest: str


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    if not pattern or "" in pattern.split("."):
        raise ValueError(f"The pattern has an empty segment: {pattern!r}")
    return re.compile(rf"{regex(pattern)}(?P<rest>(?:\..+)?)\Z")


def regex(pattern: str) -> str:
    """Return the regular expression of what a pattern names in full."""
    body = re.escape(pattern).replace(r"\*\*\.", r"(?:[^.]+\.)*")
    return body.replace(r"\*", "([^.]+)")


def match(pattern: str, name: str) -> Match | None:
    """Match a pattern against the leading segments of a name.

    Examples
    --------
    >>> match("processor.module_*", "processor.module_1.edge_mlp.0.bias")
    Match(captured=('1',), rest='.edge_mlp.0.bias')
    >>> match("g2m_gnn.grid_mlp", "g2m_gnn.grid_mlp_extra.0.bias") is None
    True
    """
    found = _compiled(pattern).match(name)
    if found is None:
        return None
    return Match(captured=found.groups()[:-1], rest=found.group("rest"))


def covers(pattern: str, name: str) -> bool:
    """Tell whether a pattern names `name` or a module that holds it."""
    return match(pattern, name) is not None


def check_pattern(pattern: str, wildcards: bool = True) -> None:
    """Raise ValueError for an empty segment, or a ``*`` that is not allowed."""
    _compiled(pattern)
    if not wildcards and "*" in pattern:
        raise ValueError(f"A wildcard is not allowed here: {pattern!r}")


def check_same_wildcards(one: str, other: str) -> None:
    """Raise ValueError unless two patterns have the same number of ``*``."""
    for pattern in (one, other):
        check_pattern(pattern)
        if "**" in pattern:
            raise ValueError(f"** can't be filled in: {pattern!r}")
    if one.count("*") != other.count("*"):
        raise ValueError(
            "The patterns need the same number of wildcards: "
            f"{one!r} and {other!r}"
        )


def fill(pattern: str, found: Match) -> str:
    """Put what was captured into another pattern, in order.

    Examples
    --------
    >>> fill("gnns.*.up", match("up_gnns.*", "up_gnns.0.edge_mlp"))
    'gnns.0.up.edge_mlp'
    """
    parts = pattern.split("*")
    text = parts[0]
    for captured, part in zip(found.captured, parts[1:], strict=True):
        text += captured + part
    return text + found.rest
