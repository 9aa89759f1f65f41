"""Operations on the order in which a model registers its parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
)
from pytest_nlam_compat.migrations.operations.segments import (
    fill,
    match,
    wildcards,
)
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True, repr=False)
class Reorder(Operation):
    """Put a module, or a tensor, before another in the order of a model.

    A state_dict is loaded by name, and the state of an optimizer by position.
    Where a model registers its parameters in another order, resumed training
    would give each one's moments to another, silently where shapes agree.

    Attributes
    ----------
    names : str
        Pattern of whole segments of what is moved.
    before : str
        Pattern of what it then stands directly before; has as many ``*``,
        which are filled in order.

    Raises
    ------
    CompatError
        There is nothing of the one name or of the other.

    Examples
    --------
    >>> Reorder("m2g", before="g2m")({"x": 0, "g2m.w": 1, "m2g.w": 2})
    {'x': 0, 'm2g.w': 2, 'g2m.w': 1}
    """

    names: str
    before: str

    def __post_init__(self) -> None:
        match(self.names, "")
        match(self.before, "")
        if wildcards(self.names) != wildcards(self.before):
            raise ValueError(
                "What is moved and what it is moved before need the same "
                f"number of wildcards: {self.names!r} and {self.before!r}"
            )

    def apply(self, run: SavedRun) -> SavedRun:
        """Order the state_dict, and the positions of the optimizers."""
        order = self._ordered(run)
        place = {name: index for index, name in enumerate(order)}
        return replace(
            run,
            state_dict={name: run.state_dict[name] for name in order},
            optimizers=[
                replace(
                    optimizer,
                    names=sorted(optimizer.names, key=place.__getitem__),
                )
                for optimizer in run.optimizers
            ],
        )

    def _ordered(self, run: SavedRun) -> list[str]:
        moved: dict[tuple[str, ...], list[str]] = {}
        for name in run.state_dict:
            found = match(self.names, name)
            if found is not None:
                moved.setdefault(found.captured, []).append(name)
        if not moved:
            raise nothing_matched(self, run, self.names)
        order = list(run.state_dict)
        for group in moved.values():
            rest = [name for name in order if name not in group]
            there = match(self.names, group[0])
            assert there is not None
            target = fill(self.before, replace(there, rest=""))
            places = [i for i, n in enumerate(rest) if match(target, n)]
            if not places:
                raise nothing_matched(self, run, target)
            order = [*rest[: places[0]], *group, *rest[places[0] :]]
        return order
