"""What became of the tensors of a run that does not fit the current model."""

from __future__ import annotations

import math
from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import combinations

from pytest_nlam_compat.diagnosis.linear_changes import (
    LayerChange,
    Shape,
    Shapes,
    linear_changes,
)
from pytest_nlam_compat.diagnosis.name_patterns import (
    enclosing_pairs,
    exchange,
    renames,
)
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.operations.segments import match

# Cost of a pair that can't be one tensor; more than all that can.
_NEVER = 1000.0
# A tensor that keeps its name needs a better reason to be another than one
# that is free.
_KEEPS = -2.0
# Dropped and added is the last thing to assume.
_UNPAIRED = 8.0
_MOST_PIECES = 4
# From the first place of a file to its last: names say more than order does.
_ORDER = 0.1


@dataclass(frozen=True)
class ParameterChange:
    """One change of the names or shapes of tensors.

    Attributes
    ----------
    kind : str
        ``renamed``, ``exchanged``, ``split``, ``fused``, ``stacked``,
        ``transposed``, ``columns added``, ``columns removed``, ``added``,
        ``dropped``; of linear layers ``factorised``, ``merged``.
    choices : tuple of tuple of Operation
        Ways to migrate a run, the likeliest first; empty where there is none.
    names : frozenset of str
        Old and new tensors that it is about.
    """

    kind: str
    text: str
    choices: tuple[tuple[op.Operation, ...], ...] = ()
    names: frozenset[str] = frozenset()


def match_parameters(
    given: Shapes, wanted: Shapes, known: Mapping[str, str] | None = None
) -> list[ParameterChange]:
    """Explain the difference between the tensors of a run and of a model.

    The operations of the changes are to be applied in this order. `known` are
    old and new names that need no guess.
    """
    lost = {n: s for n, s in given.items() if wanted.get(n) != s}
    new = {n: s for n, s in wanted.items() if given.get(n) != s}
    changes: list[ParameterChange] = []

    def settle(old: Collection[str], now: Collection[str]) -> None:
        for names, shapes in ((old, lost), (now, new)):
            for name in names:
                shapes.pop(name, None)

    def rename(pairs: Mapping[str, str]) -> None:
        for kind, text, operations in renames(pairs, given):
            old = {n for o in operations for n in _matched(o, pairs)}
            names = frozenset(old | {pairs[name] for name in old})
            changes.append(ParameterChange(kind, text, (operations,), names))

    known = known or {}
    rename(known)
    settle(known, known.values())
    for change, names in list(_exchanges(lost, new, given, wanted)):
        changes.append(change)
        settle(names, names)
    # What fits as it is was not cut, however well its parts would add up.
    pairs = _pair_names(lost, new, list(given), list(wanted), whole=True)
    for change, old, now in list(
        _cuts(
            {n: s for n, s in lost.items() if n not in pairs},
            {n: s for n, s in new.items() if n not in pairs.values()},
        )
    ):
        changes.append(change)
        settle(old, now)
    pairs = _pair_names(lost, new, list(given), list(wanted))
    rename(pairs)
    for before, after in pairs.items():
        changes += _shapes(after, lost[before], new[after])
    changes += [
        ParameterChange("dropped", name, ((op.Drop(name),),), frozenset({name}))
        for name in lost
        if name not in pairs
    ]
    here = {*given, *pairs.values()}
    found = list(linear_changes(given, wanted))
    # By a layer, the other of two in a row, and whether it comes after that.
    beside: dict[str, tuple[str, bool]] = {}
    for *_, (_, one, two) in found:
        beside |= {one: (two, False), two: (one, True)}
    changes += [
        _added(name, wanted, here, beside)
        for name in new
        if name not in pairs.values()
    ]
    return _of_layers(changes, found)


def _matched(operation: op.Operation, names: Iterable[str]) -> list[str]:
    """List the tensors that a rename is about."""
    if not isinstance(operation, op.Rename):
        return []
    return [name for name in names if match(operation.old, name)]


def _of_layers(
    changes: list[ParameterChange], found: Sequence[LayerChange]
) -> list[ParameterChange]:
    """Say of linear layers what became of them, instead of their tensors."""
    texts = {}
    for kind, text, layers in found:
        for layer in layers:
            texts[f"{layer}.weight"] = texts[f"{layer}.bias"] = kind, text
    told = []
    for change in changes:
        if change.names and change.names <= texts.keys():
            kind, text = texts[min(change.names)]
            change = replace(change, kind=kind, text=text)
        told.append(change)
    return told


def facts_by_kind(changes: Sequence[ParameterChange]) -> dict[str, str]:
    """List changes for an error message, by kind."""
    facts: dict[str, dict[str, None]] = {}
    for change in changes:
        facts.setdefault(change.kind, {})[change.text] = None
    return {
        kind: "; ".join(list(texts)[:6]) + ("; ..." if len(texts) > 6 else "")
        for kind, texts in facts.items()
    }


def _exchanges(
    lost: Shapes, new: Shapes, given: Shapes, wanted: Shapes
) -> Iterator[tuple[ParameterChange, set[str]]]:
    """Find exchanges of modules that explain tensors of a wrong shape."""
    taken: set[str] = set()
    for one, other in combinations([name for name in lost if name in new], 2):
        if {one, other} & taken:
            continue
        if lost[one] != new[other] or lost[other] != new[one]:
            continue
        *_, modules = enclosing_pairs(one, other)
        swapped = _swapped(*modules, given, wanted)
        if not swapped:
            continue
        taken |= swapped
        choices = (exchange(*modules), exchange(one, other))
        text = f"{modules[0]} and {modules[1]}"
        yield ParameterChange("exchanged", text, choices), swapped


def _swapped(one: str, other: str, given: Shapes, wanted: Shapes) -> set[str]:
    """Return all tensors of two modules, none if one does not fit there."""
    pairs = {
        name: target + name.removeprefix(module)
        for module, target in ((one, other), (other, one))
        for name in given
        if name.startswith(f"{module}.")
    }
    fits = all(wanted.get(pairs[name]) == given[name] for name in pairs)
    return set(pairs) if fits else set()


def _added(
    name: str,
    wanted: Shapes,
    here: set[str],
    beside: Mapping[str, tuple[str, bool]],
) -> ParameterChange:
    order, shape = list(wanted), wanted[name]
    after = order[order.index(name) + 1 :]
    before = next((n for n in after if n in here), None)
    earlier = [n for n in order[: order.index(name)] if n in here]
    # The hidden dimension is another in each run: as large as a neighbour.
    nearest = [*after, *earlier[::-1]]
    like = next((n for n in nearest if n in here and wanted[n] == shape), None)
    size = shape if like is None or math.prod(shape) < 2 else like
    # A bias of zeros does nothing, and a gain of ones.
    fills = (0.0, 1.0) if _leaf(name) == "bias" else (1.0, 0.0)
    choices: tuple[tuple[op.Operation, ...], ...] = tuple(
        (op.Add(name, size, fill=fill, before=before),) for fill in fills
    )
    layer = name.removesuffix(".weight")
    other, is_after = beside.get(layer, ("", False))
    if f"{other}.weight" in here and len(shape) == 2 and shape[0] == shape[1]:
        # The product of the two is the old layer, which the other one is.
        identity = op.AddIdentity(layer, other, after=is_after)
        choices = ((identity,), *choices)
    about = frozenset({name})
    return ParameterChange("added", f"{name} {shape}", choices, about)


def _pair_names(
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
    costs = np.full((len(olds), len(nows) + len(olds)), _UNPAIRED)
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
        if j < len(nows) and costs[i, j] < _UNPAIRED
    }


def _cost(old: str, shape: Shape, now: str, wanted: Shape) -> float:
    """Return what it costs to assume that one tensor became another."""
    if shape == wanted:
        cost = 0.0
    elif shape == wanted[::-1]:
        cost = 1.0
    elif (
        len(shape) == len(wanted) == 2
        and shape[0] == wanted[0]
        and _leaf(old) == _leaf(now)
    ):
        cost = 2.0
    else:
        return _NEVER
    if old == now:
        return cost + _KEEPS
    # A weight does not become a bias.
    if _leaf(old) != _leaf(now):
        cost += 1.0
    return cost + 4 * (1 - _similarity(old, now))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _similarity(old: str, now: str) -> float:
    """Compare two names, by whole segments and by their letters."""
    was, is_now = old.split("."), now.split(".")
    segments = SequenceMatcher(None, was, is_now, autojunk=False).ratio()
    letters = SequenceMatcher(None, old, now, autojunk=False).ratio()
    return (segments + letters) / 2


def _shapes(
    name: str, shape: Shape, wanted: Shape
) -> Iterator[ParameterChange]:
    """Explain a tensor of another shape; it has its new name already."""
    if shape == wanted:
        return
    about = frozenset({name})
    choices: tuple[tuple[op.Operation, ...], ...]
    if shape == wanted[::-1]:
        text = f"{name} {shape}"
        choices = ((op.Transpose(name),),)
        yield ParameterChange("transposed", text, choices, about)
        return
    text = f"{name} has {wanted[1]} columns instead of {shape[1]}"
    if wanted[1] > shape[1]:
        added = tuple(range(shape[1], wanted[1]))
        choices = ((op.AddInputColumns(name, added),),)
        yield ParameterChange("columns added", text, choices, about)
    else:
        yield ParameterChange("columns removed", text, names=about)


def _cuts(
    lost: Shapes, new: Shapes
) -> Iterator[tuple[ParameterChange, set[str], set[str]]]:
    """Find tensors that were split or fused."""
    taken: set[str] = set()
    for whole, names, dim in _splits(lost, new, taken):
        text = f"{whole} into {', '.join(names)}"
        lengths = {n: new[n][dim] for n in names}
        equal = len(set(lengths.values())) == 1
        split = op.Split(whole, tuple(names) if equal else lengths, dim=dim)
        yield ParameterChange("split", text, ((split,),)), {whole}, set(names)
    for whole, names, dim in _splits(new, lost, taken):
        text = f"{', '.join(names)} into {whole}"
        fused = op.Concatenate(tuple(names), whole, dim=dim)
        yield ParameterChange("fused", text, ((fused,),)), set(names), {whole}
    for whole, names in _stacks(lost, new, taken):
        text = f"{', '.join(names)} into {whole}"
        choices = tuple(
            (op.Stack(tuple(order), whole),) for order in (names, names[::-1])
        )
        yield ParameterChange("stacked", text, choices), set(names), {whole}


def _stacks(
    parts: Shapes, wholes: Shapes, taken: set[str]
) -> Iterator[tuple[str, list[str]]]:
    """Find tensors that others of one shape make up, one for each index."""
    for whole, shape in wholes.items():
        if whole in parts or len(shape) < 2 or shape[0] > _MOST_PIECES:
            continue
        fitting = [
            name
            for name, part in parts.items()
            if name not in taken
            and part == shape[1:]
            and _leaf(name) == _leaf(whole)
        ]
        # Names end alike where modules were stacked: ``0.weight``.
        fitting.sort(key=lambda name: -_similarity(whole, name))
        names = [name for name in parts if name in fitting[: shape[0]]]
        if len(names) == shape[0] > 1:
            taken |= {whole, *names}
            yield whole, names


def _splits(
    wholes: Shapes, parts: Shapes, taken: set[str]
) -> Iterator[tuple[str, list[str], int]]:
    """Find tensors that parts make up, and the dimension they are cut in."""
    for whole, shape in wholes.items():
        if whole in parts or whole in taken:
            continue
        free = {
            n: s for n, s in parts.items() if n not in taken | wholes.keys()
        }
        # A bias goes with its weight.
        modules = {name.rpartition(".")[0] for name in taken}
        for dim in range(len(shape)):
            names = _pieces(whole, shape, free, dim, modules)
            if names:
                taken |= {whole, *names}
                yield whole, names, dim
                break


def _pieces(
    whole: str, shape: Shape, parts: Shapes, dim: int, modules: Collection[str]
) -> list[str]:
    """Find the tensors that joined in a dimension have a shape, if any."""
    rest = (*shape[:dim], *shape[dim + 1 :])
    fitting = [
        name
        for name, part in parts.items()
        if _leaf(name) == _leaf(whole)
        and len(part) == len(shape)
        and part != shape
        and (*part[:dim], *part[dim + 1 :]) == rest
    ]
    for count in range(2, _MOST_PIECES + 1):
        found = [
            names
            for names in combinations(fitting, count)
            if sum(parts[n][dim] for n in names) == shape[dim]
        ]
        if found:

            def likeliest(names: Sequence[str]) -> tuple[int, float]:
                together = sum(n.rpartition(".")[0] in modules for n in names)
                return together, sum(_similarity(whole, n) for n in names)

            best = max(found, key=likeliest)
            return list(best)
    return []
