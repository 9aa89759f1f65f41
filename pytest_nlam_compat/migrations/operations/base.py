"""What every operation on a saved run has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.segments import covers
from pytest_nlam_compat.migrations.saved_run import SavedRun

if TYPE_CHECKING:
    from torch import Tensor

WITHOUT_OPTIMIZER = (
    "Migrate without its state: nlam-compat upgrade --drop-optimizer."
)


@dataclass(frozen=True, repr=False)
class Operation:
    """One declarative change of a saved run.

    Operations are frozen, never change the run that is passed, and print as
    the Python that builds them.

    Attributes
    ----------
    needs : tuple of str
        What a run must come with, see `Migration.needs`.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, run: SavedRun) -> SavedRun:
        """Apply the operation to a whole saved run.

        Parameters
        ----------
        run : SavedRun
            Not changed.

        Returns
        -------
        SavedRun
            A new run; what did not change is shared with `run`.

        Raises
        ------
        CompatError
            The operation matches nothing, would overwrite or leave behind a
            tensor, or needs data that the run lacks.
        """
        raise NotImplementedError

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply the operation to the weights of a plain state_dict.

        An operation on the graph or on hyper-parameters returns them
        unchanged.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Not changed.
        """
        run = SavedRun(state_dict=dict(state_dict), hyper_parameters={})
        return self.apply(run).state_dict

    def python(self) -> str:
        """Return the Python expression that builds this operation.

        Fields with a default are passed by keyword, and only where they
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

    def refuse(self, what: str, remedy: str, **facts: object) -> CompatError:
        """Build an error of this operation, for the caller to raise."""
        return CompatError(
            what, facts={"operation": self.python(), **facts}, remedy=remedy
        )

    def unmatched(self, run: SavedRun, pattern: str) -> CompatError:
        """Build the error for a pattern that matches nothing in a run."""
        first = list(run.state_dict)[:3]
        shown = ", ".join(first) + (", ..." if len(run.state_dict) > 3 else "")
        return self.refuse(
            f"Nothing in the saved run matches {pattern!r}.",
            "Correct the pattern, or the predicate of its migration.",
            names=shown or "none",
        )

    def raise_if_taken(self, run: SavedRun, names: Sequence[str]) -> None:
        """Raise if the run has a tensor of one of these names."""
        for name in names:
            if name in run.state_dict:
                raise self.refuse(
                    f"The tensor {name!r} exists already.",
                    "Drop or rename it first.",
                )

    def raise_on_collision(self, names: Mapping[str, str]) -> None:
        """Raise if a renaming, old name to new, makes two names one."""
        taken: dict[str, str] = {}
        for old, new in names.items():
            if new in taken:
                raise self.refuse(
                    f"Two tensors would be named {new!r}.",
                    "Drop or rename one of them first.",
                    first=taken[new],
                    second=old,
                )
            taken[new] = old

    def raise_on_merge(
        self, names: Mapping[str, str], target: str, remedy: str
    ) -> None:
        """Raise if renamed tensors join others under `target`, a pattern."""
        there = [
            old
            for old, new in names.items()
            if old == new and covers(target, old)
        ]
        if there:
            raise self.refuse(
                f"{target!r} already names something else.",
                remedy,
                there=", ".join(there),
            )


@dataclass(frozen=True, repr=False)
class NotOnWeights(Operation):
    """An operation on hyper-parameters or the graph only."""

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights unchanged."""
        return dict(state_dict)


@dataclass(frozen=True, repr=False)
class OnHyperParameters(NotOnWeights):
    """An operation on hyper-parameters only."""


def with_names(run: SavedRun, names: Mapping[str, str]) -> SavedRun:
    """Rename parameters and buffers, their moments and positions.

    `names` maps every name of the state_dict, without collisions.
    """

    def renamed(moment: str) -> str:
        name, _, kind = moment.rpartition(".")
        return f"{names[name]}.{kind}"

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
                reset={renamed(m): why for m, why in optimizer.reset.items()},
            )
            for optimizer in run.optimizers
        ],
    )


def replace_tensors(
    run: SavedRun,
    old: Sequence[str],
    new: Mapping[str, Tensor],
    moments: Sequence[Mapping[str, dict[str, Tensor]]],
) -> SavedRun:
    """Put tensors, which may be none, in the place of the first of others.

    `moments` are those of the new tensors, for each optimizer. If an
    operation has reset a moment of an old tensor, it counts as reset for all
    new ones.
    """
    gone = set(old)

    def with_new(names: Sequence[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            if name == old[0]:
                found += new
            elif name not in gone:
                found.append(name)
        return found

    def heirs(name: str) -> Sequence[str]:
        return list(new) if name in gone else [name]

    optimizers = []
    for optimizer, of_new in zip(run.optimizers, moments, strict=True):
        kept = {k: v for k, v in optimizer.moments.items() if k not in gone}
        reset = {
            f"{heir}.{moment.rpartition('.')[2]}": reason
            for moment, reason in optimizer.reset.items()
            for heir in heirs(moment.rpartition(".")[0])
        }
        optimizers.append(
            replace(
                optimizer,
                names=with_new(optimizer.names),
                moments={**kept, **of_new},
                reset=reset,
            )
        )
    tensors = {**run.state_dict, **new}
    return replace(
        run,
        state_dict={n: tensors[n] for n in with_new(list(run.state_dict))},
        optimizers=optimizers,
        stored_types={
            (heir, kind): stored
            for (name, kind), stored in run.stored_types.items()
            for heir in (heirs(name) if name == old[0] else [name])
            if name == old[0] or name not in gone
        },
    )
