"""Modules whose names were exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from pytest_nlam_compat.diagnosis.changes import Change, Shapes
from pytest_nlam_compat.migrations import Operation, Rename


def exchange(one: str, other: str) -> tuple[Operation, ...]:
    """Exchange the names of two modules, or of two tensors."""
    aside = f"{one}_exchanged"
    return Rename(one, aside), Rename(other, one), Rename(aside, other)


def exchanges(
    lost: Shapes, new: Shapes, given: Shapes, wanted: Shapes
) -> Iterator[tuple[Change, set[str]]]:
    """Find exchanges that explain tensors of a wrong shape.

    Parameters
    ----------
    lost, new : mapping of str to tuple of int
        Shapes by name of what does not fit, and of what is wanted there.
    given, wanted : mapping of str to tuple of int
        All of them.

    Yields
    ------
    Change
    set of str
        Tensors that fit with it.
    """
    taken: set[str] = set()
    kept = [name for name in lost if name in new]
    for one, other in combinations(kept, 2):
        if {one, other} & taken:
            continue
        if lost[one] != new[other] or lost[other] != new[one]:
            continue
        modules = _modules(one, other)
        swapped = _swapped(*modules, given, wanted)
        if modules == (one, other) or not swapped:
            continue
        taken |= swapped
        choices = (exchange(*modules), exchange(one, other))
        text = f"{modules[0]} and {modules[1]}"
        yield Change("exchanged", text, choices), swapped


def _modules(one: str, other: str) -> tuple[str, str]:
    """Return the outermost modules in which two tensors have one place."""
    first, second = one.split("."), other.split(".")
    while len(first) > 1 and len(second) > 1 and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    return ".".join(first), ".".join(second)


def _swapped(one: str, other: str, given: Shapes, wanted: Shapes) -> set[str]:
    """Return all tensors of two modules, none if one does not fit there."""
    pairs = {
        name: target + name.removeprefix(module)
        for module, target in ((one, other), (other, one))
        for name in given
        if name.startswith(f"{module}.")
    }
    if all(wanted.get(pairs[name]) == given[name] for name in pairs):
        return set(pairs)
    return set()
