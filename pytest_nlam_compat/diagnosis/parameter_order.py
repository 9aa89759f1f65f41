"""Which modules a model registers in another order than a run has them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from pytest_nlam_compat.diagnosis.name_patterns import generalise, one_pattern
from pytest_nlam_compat.migrations import Operation, Reorder

if TYPE_CHECKING:
    from torch import nn

    from pytest_nlam_compat.migrations import SavedRun


def reorderings(run: SavedRun, model: nn.Module) -> tuple[Operation, ...]:
    """Find operations that give a run the parameter order of a model.

    None where the order is right, where there is no optimizer, and where the
    model does not name the same parameters: its loader renames them.
    """
    wanted = [name for name, _ in model.named_parameters()]
    names = run.optimizers[0].names if run.optimizers else wanted
    if names == wanted or set(names) != set(wanted):
        return ()
    found = _with_patterns(_moves("", names, wanted), wanted)
    for operation in found:
        run = operation.apply(run)
    if run.optimizers[0].names == wanted:
        return found
    return tuple(Reorder(*move) for move in _fewest_moves(names, wanted))


def _moves(
    parent: str, names: Sequence[str], wanted: Sequence[str]
) -> list[tuple[str, str]]:
    """Move children before siblings, in this module and within it."""
    then, now = _children(names), _children(wanted)
    dot = f"{parent}." if parent else ""
    found = [
        (f"{dot}{child}", f"{dot}{before}")
        for child, before in _fewest_moves(list(then), list(now))
    ]
    for child, inside in now.items():
        if inside != [""]:
            found += _moves(f"{dot}{child}", then[child], inside)
    return found


def _children(names: Sequence[str]) -> dict[str, list[str]]:
    """Group names by their first segment, in order."""
    found: dict[str, list[str]] = {}
    for name in names:
        child, _, rest = name.partition(".")
        found.setdefault(child, []).append(rest)
    return found


def _fewest_moves(
    names: Sequence[str], wanted: Sequence[str]
) -> list[tuple[str, str]]:
    """Say which to move before which; few are moved.

    The last one stays, so that each of the others has one to be moved before.
    """
    last = len(wanted) - 1
    before_last = names[: names.index(wanted[last])]
    in_order = SequenceMatcher(None, before_last, wanted, autojunk=False)
    stay = {
        place
        for block in in_order.get_matching_blocks()
        for place in range(block.b, block.b + block.size)
    }
    # From the end: what one is moved before has its place already.
    return [
        (wanted[place], wanted[place + 1])
        for place in range(last - 1, -1, -1)
        if place not in stay
    ]


def _with_patterns(
    moves: Sequence[tuple[str, str]], everything: Sequence[str]
) -> tuple[Operation, ...]:
    """Write the same move within many modules with patterns."""
    alike: dict[tuple[str, str, int], list[str]] = {}
    for name, before in moves:
        sibling = before.rpartition(".")[2]
        key = name.rpartition(".")[2], sibling, name.count(".")
        alike.setdefault(key, []).append(name)
    places = {
        ".".join(name.split(".")[:depth])
        for name in everything
        for depth in range(1, name.count(".") + 2)
    }
    found: list[Operation] = []
    for (_, before, _), names in alike.items():
        together = one_pattern(names, places)
        patterns = [together] if together else generalise(names, places)
        for pattern in patterns:
            parent, dot, _ = pattern.rpartition(".")
            found.append(Reorder(pattern, before=f"{parent}{dot}{before}"))
    return tuple(found)
