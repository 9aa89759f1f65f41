"""Operations on the names of parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
    refuse_collisions,
    refuse_merging,
    with_names,
)
from pytest_nlam_compat.migrations.operations.segments import (
    covers,
    fill,
    match,
    wildcards,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True, repr=False)
class Rename(Operation):
    """Rename a module with all that it holds, or a single tensor.

    Attributes
    ----------
    old : str
        Pattern of whole segments; ``*`` stands for text within one segment.
    new : str
        Has as many ``*`` as `old`; they are filled in order.
    alone : bool
        Whether a tensor may leave its module while others stay there. Else
        that is an error: a weight renamed without its bias is a slip.
    merge : bool
        Whether `new` may name a module that holds something already. Else
        that is an error: the rename could not be undone.

    Raises
    ------
    CompatError
        Nothing matches, a new name is taken, or a tensor is left behind.

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
    merge: bool = False

    def __post_init__(self) -> None:
        match(self.old, "")
        match(self.new, "")
        if wildcards(self.old) != wildcards(self.new):
            raise ValueError(
                "The old and the new pattern need the same number of "
                f"wildcards: {self.old!r} and {self.new!r}"
            )

    def apply(self, run: SavedRun) -> SavedRun:
        """Rename in state_dict, moments and positions."""
        names: dict[str, str] = {}
        whole: list[str] = []
        matched = False
        for name in run.state_dict:
            found = match(self.old, name)
            names[name] = name if found is None else fill(self.new, found)
            if found is not None:
                matched = True
                if not found.rest:
                    whole.append(name)
        if not matched:
            raise nothing_matched(self, run, self.old)
        refuse_collisions(self, names)
        if not self.alone:
            self._refuse_leaving_behind(names, whole)
        if not self.merge:
            refuse_merging(self, names, self.new)
        return with_names(run, names)

    def _refuse_leaving_behind(
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
                    "Rename the module as a whole, or say alone=True.",
                    moved=name,
                    left=", ".join(left),
                )

    def inverse(self) -> Rename | None:
        """Rename back, where that is sure to give the old names.

        Not after a merge, which mixes what was renamed with what was not, and
        not where a segment of `new` has two wildcards: ``a_b_c`` doesn't say
        which ``_`` of ``*_*`` it was.
        """
        if self.merge or any(wildcards(s) > 1 for s in self.new.split(".")):
            return None
        return Rename(self.new, self.old, alone=self.alone)


@dataclass(frozen=True, repr=False)
class MoveUnder(Operation):
    """Move modules and tensors, with their names, under a parent.

    Attributes
    ----------
    parent : str
        Dot-separated segments, without wildcards.
    names : tuple of str
        Patterns of what moves; everything by default.
    but : tuple of str
        Patterns of what stays where it is.
    merge : bool
        Whether something may be under the parent already; it stays. Else that
        is an error: the move could not be undone.

    Raises
    ------
    CompatError
        A pattern matches nothing, something is under the parent already, or a
        new name is taken.
    """

    parent: str
    names: tuple[str, ...] = ("*",)
    but: tuple[str, ...] = ()
    merge: bool = False

    def __post_init__(self) -> None:
        for pattern in (self.parent, *self.names, *self.but):
            match(pattern, "")
        if wildcards(self.parent):
            raise ValueError(f"The parent has a wildcard: {self.parent!r}")

    def apply(self, run: SavedRun) -> SavedRun:
        """Move in state_dict, moments and positions."""
        stays = (self.parent, *self.but)
        candidates = [
            name
            for name in run.state_dict
            if not any(covers(pattern, name) for pattern in stays)
        ]
        for pattern in self.names:
            if not any(covers(pattern, name) for name in candidates):
                raise nothing_matched(self, run, pattern)
        names = {name: name for name in run.state_dict}
        for name in candidates:
            if any(covers(pattern, name) for pattern in self.names):
                names[name] = f"{self.parent}.{name}"
        refuse_collisions(self, names)
        if not self.merge:
            refuse_merging(self, names, self.parent)
        return with_names(run, names)

    def inverse(self) -> MoveOut | None:
        """Move out again; None after a merge, which mixes the two."""
        return None if self.merge else MoveOut(self.parent)


@dataclass(frozen=True, repr=False)
class MoveOut(Operation):
    """Move all that is under a parent to the top level.

    Attributes
    ----------
    parent : str
        Dot-separated segments, without wildcards.

    Raises
    ------
    CompatError
        Nothing is under the parent, or a new name is taken.
    """

    parent: str

    def __post_init__(self) -> None:
        match(self.parent, "")
        if wildcards(self.parent):
            raise ValueError(f"The parent has a wildcard: {self.parent!r}")

    def apply(self, run: SavedRun) -> SavedRun:
        """Move in state_dict, moments and positions."""
        start = f"{self.parent}."
        names = {name: name.removeprefix(start) for name in run.state_dict}
        if all(old == new for old, new in names.items()):
            raise nothing_matched(self, run, self.parent)
        refuse_collisions(self, names)
        return with_names(run, names)


@dataclass(frozen=True, repr=False)
class Drop(Operation):
    """Drop modules or tensors, with their moments and positions.

    Attributes
    ----------
    name : str
        Pattern of whole segments.

    Raises
    ------
    CompatError
        Nothing matches.
    """

    name: str

    def __post_init__(self) -> None:
        match(self.name, "")

    def apply(self, run: SavedRun) -> SavedRun:
        """Drop from state_dict, moments and positions."""
        gone = {name for name in run.state_dict if covers(self.name, name)}
        if not gone:
            raise nothing_matched(self, run, self.name)
        return replace(
            run,
            state_dict={
                k: t for k, t in run.state_dict.items() if k not in gone
            },
            stored_types={
                key: stored
                for key, stored in run.stored_types.items()
                if key[0] not in gone
            },
            optimizers=[
                replace(
                    optimizer,
                    names=[n for n in optimizer.names if n not in gone],
                    moments={
                        name: kinds
                        for name, kinds in optimizer.moments.items()
                        if name not in gone
                    },
                    reset={
                        moment: reason
                        for moment, reason in optimizer.reset.items()
                        if moment.rpartition(".")[0] not in gone
                    },
                )
                for optimizer in run.optimizers
            ],
        )
