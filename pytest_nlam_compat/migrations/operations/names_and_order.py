"""Operations on the names of parameters and buffers, and on their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    replace_tensors,
    reset_of,
)
from pytest_nlam_compat.migrations.operations.segments import (
    check_pattern,
    check_same_wildcards,
    covers,
    fill,
    match,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(repr=False, eq=False)
class Rename(Operation):
    """Rename a module with all that it holds, or a single tensor.

    Attributes
    ----------
    old : str
        Pattern of whole segments; ``*`` stands for text within one segment.
    new : str
        Has as many ``*`` as `old`; they are filled in order.
    alone : bool
        Whether a tensor may leave its module while others stay there. By
        default that is an error: a weight renamed without its bias is a slip.

    Examples
    --------
    >>> Rename("g2m_gnn.grid_mlp", "encoding_grid_mlp")(
    ...     {"g2m_gnn.grid_mlp.0.weight": 1, "g2m_gnn.grid_mlp_b.bias": 2}
    ... )
    {'encoding_grid_mlp.0.weight': 1, 'g2m_gnn.grid_mlp_b.bias': 2}
    """

    old: str
    new: str
    alone: bool = False

    def __post_init__(self) -> None:
        check_same_wildcards(self.old, self.new)

    def apply(self, run: SavedRun) -> SavedRun:
        """Rename in state_dict, moments and positions."""
        found = {name: match(self.old, name) for name in run.state_dict}
        if not any(found.values()):
            raise self.unmatched(run, self.old)
        names = {
            name: fill(self.new, hit) if hit else name
            for name, hit in found.items()
        }
        whole = [name for name, hit in found.items() if hit and not hit.rest]
        if not self.alone:
            self._raise_if_left_behind(names, whole)
        return _with_names(self, run, names, self.new)

    def _raise_if_left_behind(
        self, names: dict[str, str], whole: list[str]
    ) -> None:
        for name in whole:
            parent = name.rpartition(".")[0]
            if not parent or names[name].rpartition(".")[0] == parent:
                continue
            left = [
                other
                for other, new in names.items()
                if other.rpartition(".")[0] == parent and new == other
            ]
            if left:
                raise self.refuse(
                    "The rename would leave a tensor of the same module "
                    "behind.",
                    "Rename the whole module, or set alone=True.",
                    moved=name,
                    left=", ".join(left),
                )


@dataclass(repr=False, eq=False)
class MoveUnder(Operation):
    """Move everything under a parent module, named without wildcards."""

    parent: str

    def __post_init__(self) -> None:
        check_pattern(self.parent, wildcards=False)

    def apply(self, run: SavedRun) -> SavedRun:
        """Move in state_dict, moments and positions."""
        names = {
            name: name if covers(self.parent, name) else f"{self.parent}.{name}"
            for name in run.state_dict
        }
        if all(old == new for old, new in names.items()):
            raise self.unmatched(run, "*")
        return _with_names(self, run, names, self.parent)


def _with_names(
    operation: Operation, run: SavedRun, names: Mapping[str, str], target: str
) -> SavedRun:
    """Rename parameters and buffers, their moments and positions.

    `names` maps every name of the state_dict. Refuses to make two names one,
    and to put tensors among others below `target`, a pattern.
    """
    taken: dict[str, str] = {}
    for old, new in names.items():
        if new in taken:
            raise operation.refuse(
                f"Two tensors would be named {new!r}.",
                "Drop or rename one of them first.",
                first=taken[new],
                second=old,
            )
        taken[new] = old
    there = [o for o, n in names.items() if o == n and covers(target, o)]
    if there:
        raise operation.refuse(
            f"{target!r} already names something else.",
            "Rename what is there first, or drop it.",
            there=", ".join(there),
        )
    return replace(
        run,
        state_dict={names[k]: t for k, t in run.state_dict.items()},
        stored_types={
            (names.get(name, name), kind): stored
            for (name, kind), stored in run.stored_types.items()
        },
        optimizers=[
            replace(
                optimizer,
                names=[names[name] for name in optimizer.names],
                moments={names[n]: m for n, m in optimizer.moments.items()},
                reset=reset_of(optimizer, lambda name: [names[name]]),
            )
            for optimizer in run.optimizers
        ],
    )


@dataclass(repr=False, eq=False)
class Drop(Operation):
    """Drop what a pattern names, with its moments and positions."""

    name: str

    def __post_init__(self) -> None:
        check_pattern(self.name)

    def apply(self, run: SavedRun) -> SavedRun:
        """Drop from state_dict, moments and positions."""
        gone = [name for name in run.state_dict if covers(self.name, name)]
        if not gone:
            raise self.unmatched(run, self.name)
        return replace_tensors(self, run, gone, [], lambda tensors: [])


@dataclass(repr=False, eq=False)
class Reorder(Operation):
    """Put a module, or a tensor, before another in the order of a model.

    A state_dict is loaded by name, and the state of an optimizer by position.
    Where a model registers its parameters in another order, each would resume
    training with the moments of another, silently where shapes agree.

    Attributes
    ----------
    names : str
        Pattern of whole segments of what is moved.
    before : str
        Pattern of what it then stands directly before; has as many ``*``,
        which are filled in order.

    Examples
    --------
    >>> Reorder("m2g", before="g2m")({"x": 0, "g2m.w": 1, "m2g.w": 2})
    {'x': 0, 'm2g.w': 2, 'g2m.w': 1}
    """

    names: str
    before: str

    def __post_init__(self) -> None:
        check_same_wildcards(self.names, self.before)

    def apply(self, run: SavedRun) -> SavedRun:
        """Order the state_dict, and the positions of the optimizers."""
        order = self._ordered(run)
        position = {name: index for index, name in enumerate(order)}
        return replace(
            run,
            state_dict={name: run.state_dict[name] for name in order},
            optimizers=[
                replace(
                    optimizer,
                    names=sorted(optimizer.names, key=position.__getitem__),
                )
                for optimizer in run.optimizers
            ],
        )

    def _ordered(self, run: SavedRun) -> list[str]:
        moved: dict[str, list[str]] = {}
        for name in run.state_dict:
            found = match(self.names, name)
            if found is not None:
                target = fill(self.before, found._replace(rest=""))
                moved.setdefault(target, []).append(name)
        if not moved:
            raise self.unmatched(run, self.names)
        order = list(run.state_dict)
        for target, group in moved.items():
            rest = [name for name in order if name not in group]
            places = [i for i, n in enumerate(rest) if covers(target, n)]
            if not places:
                raise self.unmatched(run, target)
            order = [*rest[: places[0]], *group, *rest[places[0] :]]
        return order
