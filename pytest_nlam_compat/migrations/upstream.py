"""Our steps in the form that neural-lam's own registry takes.

neural-lam #701 (open) keeps a list of ``Migration(target_version,
description, apply, hard_break)``, where ``apply`` maps one state_dict to
another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.migrations.operations import HardBreak, Operation
from pytest_nlam_compat.migrations.operations.base import NotOnWeights

if TYPE_CHECKING:
    from torch import Tensor

StateDictFunction = Callable[["dict[str, Tensor]"], "dict[str, Tensor]"]


class UpstreamStep(NamedTuple):
    """What ``neural_lam.migrations.Migration`` takes besides its number.

    Attributes
    ----------
    description : str
    apply : callable or None
        Maps a state_dict to a new one; None for a hard break.
    hard_break : bool
    """

    description: str
    apply: StateDictFunction | None
    hard_break: bool


def as_callables(steps: Iterable[Migration]) -> list[UpstreamStep]:
    """Give the weights' part of steps in the form of neural-lam's registry.

    Parameters
    ----------
    steps : iterable of Migration
        In order. Their predicates are left behind: upstream's registry has
        none and goes by its integer stamp alone.

    Returns
    -------
    list of UpstreamStep
        One for each step that has a part on weights, for
        ``neural_lam.migrations.Migration(number, *step)``. A step on
        hyper-parameters or the graph only has none.

    Raises
    ------
    CompatError
        A step changes weights by what a state_dict doesn't hold.

    Examples
    --------
    >>> from pytest_nlam_compat.migrations import Rename
    >>> step = Migration(
    ...     "gnn-names", "0.8.0", "Shorter names (#800).",
    ...     (Rename("mesh_up_gnns", "up"),),
    ... )
    >>> [upstream.description for upstream in as_callables([step])]
    ['gnn-names: Shorter names (#800).']
    """
    found = []
    for step in steps:
        on_weights = [
            operation
            for operation in step.operations
            if not isinstance(operation, NotOnWeights)
        ]
        if not on_weights:
            continue
        if step.needs:
            raise CompatError(
                f"The step {step.id!r} needs more than a state_dict.",
                facts={"needs": ", ".join(step.needs)},
                remedy="Leave it to pytest-nlam-compat, and write a hard "
                "break into neural-lam's registry.",
            )
        broken = any(isinstance(o, HardBreak) for o in on_weights)
        found.append(
            UpstreamStep(
                description=f"{step.id}: {step.reason}",
                apply=None if broken else _chain(on_weights),
                hard_break=broken,
            )
        )
    return found


def _chain(operations: list[Operation]) -> StateDictFunction:
    def apply(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        for operation in operations:
            state_dict = operation(state_dict)
        return state_dict

    return apply
