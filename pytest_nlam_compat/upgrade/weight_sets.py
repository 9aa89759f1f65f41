"""All sets of weights that a checkpoint holds, under the names of the model.

Besides ``state_dict``, averages of the weights have the same names: in a
callback's state, or as an entry that Lightning's ``WeightAveraging`` adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files.refusals import printable
from pytest_nlam_compat.migrations.releases import (
    WRAPPERS,
    parameter_names,
    unwrapped,
)

_AVERAGED = "module."
"""What ``AveragedModel`` puts before the names of its own copy, and reads."""
_ELSEWHERE = ("state_dict", "hyper_parameters", "optimizer_states")


def unwrap(weights: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Remove what wrappers added to names; also say which there were."""
    new: dict[str, Any] = {}
    for name, tensor in weights.items():
        bare = unwrapped(str(name))
        if bare in new:
            raise CompatError(
                "Without what a wrapper added, two weights have one name.",
                facts={"found": printable(str(name)), "name": printable(bare)},
                remedy="Remove one of the two from the state_dict.",
            )
        new[bare] = tensor
    parts = {part for name in weights for part in str(name).split(".")}
    return new, [part for part in WRAPPERS if part in parts]


def find_sets(
    data: Mapping[str, Any], names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Find the other sets of weights in a checkpoint, by their dotted paths.

    `data` is its tree, and `names` are those in its ``state_dict``, unwrapped.
    """
    needed = set(parameter_names(names))
    others = {k: v for k, v in data.items() if k not in _ELSEWHERE}
    return {
        path: table
        for path, table in _tables(others, "", set())
        if needed <= set(_inner_names(table))
        and all(isinstance(each, TensorRef) for each in table.values())
    }


def _tables(
    tree: Any, path: str, seen: set[int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """List the tables of named entries below a part of a tree, each once."""
    if not isinstance(tree, (dict, list, tuple)) or id(tree) in seen:
        return
    seen.add(id(tree))
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    if isinstance(tree, dict) and path and set(map(type, tree)) == {str}:
        yield path, tree
    for key, value in items:
        below = printable(str(getattr(key, "path", key)))
        yield from _tables(value, f"{path}.{below}" if path else below, seen)


def _inner_names(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the names as in the table, by those that the model has."""
    return {unwrapped(name): name for name in table}


def migrate_set(
    table: Mapping[str, Any],
    names: Iterable[str],
    migrate: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> dict[str, Any]:
    """Migrate another set of the weights that are in the ``state_dict``.

    What whoever reads the set has besides, as the count of an average, stays,
    and so does the name that ``AveragedModel`` puts before all others.
    """
    known = _inner_names(table)
    weights = {name: table[known[name]] for name in names if name in known}
    taken = {known[name] for name in weights}
    prefix = _AVERAGED if all(n.startswith(_AVERAGED) for n in taken) else ""
    rest = {name: table[name] for name in table if name not in taken}
    new = migrate(weights)
    return {**rest, **{f"{prefix}{name}": new[name] for name in new}}


def replaced(tree: Any, new: Mapping[int, Any]) -> Any:
    """Return a tree with other tables in the place of some, by their ids.

    What holds none of them is shared with the old tree.
    """
    if id(tree) in new:
        return new[id(tree)]
    if isinstance(tree, dict):
        items = {key: replaced(value, new) for key, value in tree.items()}
        if all(items[key] is value for key, value in tree.items()):
            return tree
        copied = tree.copy()
        copied.update(items)
        return copied
    if type(tree) in (list, tuple):
        parts = [replaced(value, new) for value in tree]
        if all(a is b for a, b in zip(parts, tree, strict=True)):
            return tree
        return type(tree)(parts)
    return tree
