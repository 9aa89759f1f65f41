"""What every operation on a saved run has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.segments import covers
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Operation:
    """One declarative change of a saved run.

    Operations are frozen, never change the run that they are given, and print
    as the Python that builds them.
    """

    def apply(self, run: SavedRun) -> SavedRun:
        """Carry a whole saved run across.

        Parameters
        ----------
        run : SavedRun
            Left as it is.

        Returns
        -------
        SavedRun
            A new run; what did not change is shared with `run`.

        Raises
        ------
        CompatError
            Where the operation matches nothing, would overwrite or leave
            behind a tensor, or lacks data that it needs.
        """
        raise NotImplementedError

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Do the part on the weights of a plain state_dict.

        An operation on the graph or on hyper-parameters has no part here
        and gives the weights back as they are.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Left as it is.

        Returns
        -------
        dict of str to Tensor
        """
        run = SavedRun(state_dict=dict(state_dict), hyper_parameters={})
        return self.apply(run).state_dict

    def python(self) -> str:
        """Give the Python expression that builds this operation.

        Fields that have a default come by keyword, and only where they
        differ from it. The expression evaluates where everything that
        `pytest_nlam_compat.migrations` exports is imported.
        """
        arguments = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING:
                arguments.append(repr(value))
            elif value != field.default:
                arguments.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __repr__(self) -> str:
        return self.python()

    def inverse(self) -> Operation | None:
        """Give the operation that undoes this one, or None.

        Only where it follows from the operation alone and is exact.
        """
        return None

    def refuse(self, what: str, remedy: str, **facts: object) -> CompatError:
        """Build the error of this operation; the caller raises it."""
        return CompatError(
            what, facts={"operation": self.python(), **facts}, remedy=remedy
        )


@dataclass(frozen=True, repr=False)
class NotOnWeights(Operation):
    """An operation on hyper-parameters or graph only."""

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the weights back as they are."""
        return dict(state_dict)


def with_names(run: SavedRun, names: Mapping[str, str]) -> SavedRun:
    """Rename parameters and buffers, their moments and positions.

    Parameters
    ----------
    run : SavedRun
    names : mapping of str to str
        Every name of the state_dict to its new name, without collisions.

    Returns
    -------
    SavedRun
        Order and positions are kept.
    """
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
                moments={
                    names[name]: kinds
                    for name, kinds in optimizer.moments.items()
                },
                reset={
                    renamed_moment(moment, names): reason
                    for moment, reason in optimizer.reset.items()
                },
            )
            for optimizer in run.optimizers
        ],
    )


def renamed_moment(moment: str, names: Mapping[str, str]) -> str:
    """Rename the parameter of a ``"name.kind"``."""
    name, _, kind = moment.rpartition(".")
    return f"{names[name]}.{kind}"


def nothing_matched(
    operation: Operation, run: SavedRun, pattern: str
) -> CompatError:
    """Build the error of a pattern that no name of the run matches."""
    first = list(run.state_dict)[:3]
    shown = ", ".join(first) + (", ..." if len(run.state_dict) > 3 else "")
    return operation.refuse(
        f"Nothing in the saved run matches {pattern!r}.",
        "Correct the pattern, or the predicate of its migration.",
        names=shown or "none",
    )


def refuse_collisions(operation: Operation, names: Mapping[str, str]) -> None:
    """Raise where two names would become one.

    Raises
    ------
    CompatError
        Names both and the name that they would share.
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


def refuse_merging(
    operation: Operation, names: Mapping[str, str], target: str
) -> None:
    """Raise where tensors join others that have the target's name already.

    Parameters
    ----------
    operation : Operation
    names : mapping of str to str
        Every name to its new one.
    target : str
        Pattern of where the renamed tensors go.

    Raises
    ------
    CompatError
    """
    there = [
        old for old, new in names.items() if old == new and covers(target, old)
    ]
    if there:
        raise operation.refuse(
            f"{target!r} already names something else.",
            "Say merge=True if they belong together.",
            there=", ".join(there),
        )
