"""What became of the tensors of a run that does not fit the current model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import combinations

from pytest_nlam_compat.diagnosis.changes import Change, Shape, Shapes
from pytest_nlam_compat.diagnosis.exchanging import exchanges
from pytest_nlam_compat.diagnosis.patterns import renames
from pytest_nlam_compat.migrations import (
    Add,
    AddInputColumns,
    Concatenate,
    Drop,
    Split,
    Transpose,
)

# Of a pair that can't be one tensor; more than all that can.
_NEVER = 1000.0
# A tensor that keeps its name needs a better reason to be another than one
# that is free.
_KEEPS = -2.0
# Dropped and added is the last thing to assume.
_LONELY = 8.0
_MOST_PIECES = 4
# From the first place of a file to its last: names say more than order does.
_ORDER = 0.1


def match(given: Shapes, wanted: Shapes) -> list[Change]:
    """Explain the difference between what is given and what is wanted.

    Parameters
    ----------
    given, wanted : mapping of str to tuple of int
        Shapes by name, of the run and of the model, in order.

    Returns
    -------
    list of Change
        In the order in which their operations are to be applied.
    """
    lost = {n: s for n, s in given.items() if wanted.get(n) != s}
    new = {n: s for n, s in wanted.items() if given.get(n) != s}
    changes = []
    for change, swapped in exchanges(lost, new, given, wanted):
        changes.append(change)
        lost = {n: s for n, s in lost.items() if n not in swapped}
        new = {n: s for n, s in new.items() if n not in swapped}
    # What fits as it is was not cut, however well its parts would add up.
    pairs = _assign(lost, new, list(given), list(wanted), whole=True)
    for change, cut, made in _cuts(
        {n: s for n, s in lost.items() if n not in pairs},
        {n: s for n, s in new.items() if n not in pairs.values()},
    ):
        changes.append(change)
        lost = {n: s for n, s in lost.items() if n not in cut}
        new = {n: s for n, s in new.items() if n not in made}
    pairs = _assign(lost, new, list(given), list(wanted))
    changes += [
        Change(kind, text, (operations,))
        for kind, text, operations in renames(pairs, given)
    ]
    for old, now in pairs.items():
        changes += _shapes(now, lost[old], new[now])
    gone = [name for name in lost if name not in pairs]
    changes += [Change("dropped", n, ((Drop(n),),)) for n in gone]
    here = set(pairs.values())
    order = list(wanted)
    for name in (n for n in new if n not in here):
        changes.append(_added(name, new[name], order, given, set(here)))
    return changes


def _added(
    name: str, shape: Shape, order: list[str], given: Shapes, here: set[str]
) -> Change:
    after = order[order.index(name) + 1 :]
    before = next((n for n in after if n in given or n in here), None)
    return Change(
        "added",
        f"{name} {shape}",
        tuple(
            (Add(name, shape, fill=fill, before=before),) for fill in (1.0, 0.0)
        ),
    )


def _assign(
    lost: Shapes,
    new: Shapes,
    given: Sequence[str],
    wanted: Sequence[str],
    *,
    whole: bool = False,
) -> dict[str, str]:
    """Pair old with new names, all at once; only equal shapes if `whole`."""
    if not lost or not new:
        return {}
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    places = {n: i / len(given) for i, n in enumerate(given)}
    targets = {n: i / len(wanted) for i, n in enumerate(wanted)}
    olds, nows = list(lost), list(new)
    costs = np.full((len(olds), len(nows) + len(olds)), _LONELY)
    for i, old in enumerate(olds):
        for j, now in enumerate(nows):
            if whole and lost[old] != new[now]:
                costs[i, j] = _NEVER
                continue
            apart = abs(places[old] - targets[now])
            costs[i, j] = _cost(old, lost[old], now, new[now]) + _ORDER * apart
    rows, columns = linear_sum_assignment(costs)
    return {
        olds[i]: nows[j]
        for i, j in zip(rows, columns, strict=True)
        if j < len(nows) and costs[i, j] < _LONELY
    }


def _cost(old: str, shape: Shape, now: str, wanted: Shape) -> float:
    if shape == wanted:
        cost = 0.0
    elif shape == wanted[::-1]:
        cost = 1.0
    elif (
        len(shape) == len(wanted) == 2
        and shape[0] == wanted[0]
        and old.rpartition(".")[2] == now.rpartition(".")[2]
    ):
        cost = 2.0
    else:
        return _NEVER
    if old == now:
        return cost + _KEEPS
    # A weight does not become a bias.
    if old.rpartition(".")[2] != now.rpartition(".")[2]:
        cost += 1.0
    return cost + 4 * (1 - _alike(old, now))


def _alike(old: str, now: str) -> float:
    """Likeness of two names, by whole segments and by their letters."""
    was, is_now = old.split("."), now.split(".")
    segments = SequenceMatcher(None, was, is_now, autojunk=False).ratio()
    letters = SequenceMatcher(None, old, now, autojunk=False).ratio()
    return (segments + letters) / 2


def _shapes(name: str, shape: Shape, wanted: Shape) -> Iterator[Change]:
    """Explain a tensor of another shape; it has its new name already."""
    if shape == wanted:
        return
    if shape == wanted[::-1]:
        yield Change("transposed", f"{name} {shape}", ((Transpose(name),),))
    elif wanted[1] > shape[1]:
        added = tuple(range(shape[1], wanted[1]))
        yield Change(
            "columns added",
            f"{name} has {wanted[1]} columns instead of {shape[1]}",
            ((AddInputColumns(name, added),),),
        )
    else:
        yield Change(
            "columns removed",
            f"{name} has {wanted[1]} columns instead of {shape[1]}",
        )


def _cuts(
    lost: Shapes, new: Shapes
) -> Iterator[tuple[Change, set[str], set[str]]]:
    """Find tensors that were split or fused."""
    taken: set[str] = set()
    for whole, parts, split in (
        *((old, new, True) for old in lost if old not in new),
        *((now, lost, False) for now in new if now not in lost),
    ):
        shape = lost[whole] if split else new[whole]
        free = {n: s for n, s in parts.items() if n not in taken}
        with_weights = {n.rpartition(".")[0] for n in taken}
        pieces = _pieces(
            whole, shape, free, lost if split else new, with_weights
        )
        if pieces is None or whole in taken:
            continue
        names, dim = pieces
        taken |= {whole, *names}
        lengths = {name: parts[name][dim] for name in names}
        if split:
            change = Change(
                "split",
                f"{whole} into {', '.join(names)}",
                ((Split(whole, lengths, dim=dim),),),
            )
            yield change, {whole}, set(names)
        else:
            change = Change(
                "fused",
                f"{', '.join(names)} into {whole}",
                ((Concatenate(tuple(names), whole, dim=dim),),),
            )
            yield change, set(names), {whole}


def _pieces(
    whole: str,
    shape: Shape,
    parts: Shapes,
    others: Shapes,
    modules: Collection[str],
) -> tuple[list[str], int] | None:
    """Find tensors of one place that together have a shape."""
    leaf = whole.rpartition(".")[2]
    near = [
        name
        for name, part in parts.items()
        if name.rpartition(".")[2] == leaf
        and len(part) == len(shape)
        and part != shape
        and name not in others
    ]
    for dim in range(len(shape)):
        fitting = [
            name
            for name in near
            if all(
                a == b
                for axis, (a, b) in enumerate(
                    zip(parts[name], shape, strict=True)
                )
                if axis != dim
            )
        ]
        for count in range(2, _MOST_PIECES + 1):
            best = sorted(
                (
                    names
                    for names in combinations(fitting, count)
                    if sum(parts[n][dim] for n in names) == shape[dim]
                ),
                # A bias goes with its weight.
                key=lambda names: (
                    -sum(n.rpartition(".")[0] in modules for n in names),
                    -sum(_alike(whole, n) for n in names),
                ),
            )
            if best:
                return list(best[0]), dim
    return None


def explain(changes: Sequence[Change]) -> dict[str, str]:
    """Lay changes out for an error message, by kind."""
    facts: dict[str, list[str]] = {}
    for change in changes:
        facts.setdefault(change.kind, []).append(change.text)
    return {
        kind: "; ".join(texts[:6]) + ("; ..." if len(texts) > 6 else "")
        for kind, texts in facts.items()
    }
