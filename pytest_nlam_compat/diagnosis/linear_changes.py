"""Which linear layers have become two in a row, or one of two.

Told from names and shapes: tensor by tensor, such a change looks like weights
that are renamed, dropped and added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

LayerChange = tuple[str, str, tuple[str, str, str]]
"""A kind of change, its text, and a layer with the two in a row."""


def linear_changes(given: Shapes, wanted: Shapes) -> Iterator[LayerChange]:
    """Find linear layers that have become others.

    Parameters
    ----------
    given, wanted : mapping of str to tuple of int
        Shapes of all tensors of the run and of the model, in their order.
    """
    for layer, (one, two) in _composed(given, wanted):
        text = f"{layer} into {one} and {two}"
        yield "factorised", text, (layer, one, two)
    for layer, (one, two) in _composed(wanted, given):
        text = f"{one} and {two} into {layer}"
        yield "merged", text, (layer, one, two)


def _composed(
    one: Shapes, two: Shapes
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Find layers of one model that are two in a row in the other."""
    ones, twos = _linears(one), _linears(two)
    pairs = [
        pair
        for pair in pairwise(twos)
        if _is_next(*pair)
        and twos[pair[0]][0] == twos[pair[1]][1]
        and not all(ones.get(layer) == twos[layer] for layer in pair)
    ]
    taken: set[str] = set()
    # A layer that is left, then the second of the two, then the first.
    for place in (None, 1, 0):
        for pair in pairs:
            layer = _one_of(pair, place, ones, twos)
            shape = (twos[pair[1]][0], twos[pair[0]][1])
            if ones.get(layer) == shape and taken.isdisjoint((layer, *pair)):
                taken |= {layer, *pair}
                yield layer, pair


def _one_of(
    pair: tuple[str, str], place: int | None, ones: Shapes, twos: Shapes
) -> str:
    """Return the layer that the pair may be; empty if none.

    One that is left is the only one to go, or any that holds both; one that
    stays is the first or second of the two, and none goes.
    """
    parent = pair[0].rpartition(".")[0]
    gone = [
        layer
        for layer in ones
        if layer not in twos and parent in (layer, layer.rpartition(".")[0])
    ]
    if place is None:
        is_new = ones.keys().isdisjoint(pair)
        return gone[0] if is_new and len(gone) == 1 else ""
    return "" if gone or pair[1 - place] in ones else pair[place]


def _linears(shapes: Shapes) -> dict[str, Shape]:
    """Return the weights of linear layers by the names of the layers."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }


def _is_next(one: str, other: str) -> bool:
    """Tell whether two modules are of one parent, one right after the other."""
    (outer, _, first), (parent, _, second) = (
        name.rpartition(".") for name in (one, other)
    )
    if outer != parent:
        return False
    if first.isdigit() and second.isdigit():
        # Of three there is something between the two.
        return int(second) == int(first) + 1
    return True
