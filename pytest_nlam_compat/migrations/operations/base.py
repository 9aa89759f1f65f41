"""What operations on a saved run have in common, and two for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import (
    MISSING,
    FrozenInstanceError,
    dataclass,
    fields,
    replace,
)
from typing import TYPE_CHECKING, ClassVar

from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.migrations.saved_run import Optimizer, SavedRun, values

if TYPE_CHECKING:
    from torch import Tensor

# The power of the gradient in each moment. max_exp_avg_sq is amsgrad's.
POWERS = {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}

WITHOUT_OPTIMIZER = (
    "Migrate without its state: nlam-compat upgrade --drop-optimizer."
)


@dataclass(repr=False, eq=False)
class Expression:
    """What prints as the Python that builds it: an operation or a predicate."""

    def python(self) -> str:
        """Return the Python expression that builds it.

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

    # A frozen dataclass would get three times as much code of its own: with
    # 50 of them, people would wait for that.
    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super().__setattr__(name, value)

    # Once for all: a class that gets its own takes twice as long to import.
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.python())


@dataclass(repr=False, eq=False)
class Operation(Expression):
    """One declarative change of a saved run.

    Operations are frozen, and never change the run that is passed. `needs` is
    as in `Migration`.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def apply(self, run: SavedRun) -> SavedRun:
        """Return a new run; what did not change is shared with `run`.

        Raises
        ------
        CompatError
            The operation matches nothing, would overwrite or leave behind a
            tensor, or needs data that the run lacks.
        """
        raise NotImplementedError

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a plain state_dict as they become."""
        run = SavedRun(state_dict=dict(state_dict), hyper_parameters={})
        return self.apply(run).state_dict

    def refuse(self, what: str, remedy: str, **facts: object) -> CompatError:
        """Build an error of this operation, for the caller to raise."""
        return CompatError(
            what, facts={"operation": self.python(), **facts}, remedy=remedy
        )

    def unmatched(self, run: SavedRun, pattern: str) -> CompatError:
        """Build the error for a pattern that matches nothing in a run."""
        return self.refuse(
            f"Nothing in the saved run matches {pattern!r}.",
            "Correct the pattern, or the predicate of its migration.",
            names=join_some(run.state_dict, 3) or "none",
        )

    def raise_if_missing(self, run: SavedRun, *names: str) -> None:
        """Raise unless the run has a tensor of each of these names."""
        for name in names:
            if name not in run.state_dict:
                raise self.unmatched(run, name)

    def raise_if_taken(self, run: SavedRun, names: Sequence[str]) -> None:
        """Raise if the run has a tensor of one of these names."""
        for name in names:
            if name in run.state_dict:
                raise self.refuse(
                    f"The tensor {name!r} exists already.",
                    "Drop or rename it first.",
                )


@dataclass(repr=False, eq=False)
class NotOnWeights(Operation):
    """An operation on hyper-parameters or the graph only."""

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights unchanged."""
        return dict(state_dict)


@dataclass(repr=False, eq=False)
class OnHyperParameters(NotOnWeights):
    """An operation on hyper-parameters only."""


@dataclass(repr=False, eq=False)
class HardBreak(Operation):
    """Refuse a run that can't be migrated, and say what its owner can do."""

    why: str
    remedy: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Refuse the run."""
        raise self.refuse(self.why, self.remedy)


@dataclass(repr=False, eq=False)
class CallFunction(Operation):
    """Call a function on the saved run, where no operation does it.

    The function has the duties of an operation: it returns a new run,
    converts the moments along with the weights, and raises if it finds
    nothing to do.

    Attributes
    ----------
    function : callable
        Maps a `SavedRun`, whose tensors are loaded, to a new one. Defined at
        the top level of a module, so that its name identifies it.
    """

    function: Callable[[SavedRun], SavedRun]

    def __post_init__(self) -> None:
        if not self.function.__qualname__.isidentifier():
            raise ValueError(
                "Not at the top level of a module: "
                f"{self.function.__qualname__}"
            )

    def apply(self, run: SavedRun) -> SavedRun:
        """Call the function."""
        try:
            new: object = self.function(run.map_tensors(values))
        except CompatError:
            raise
        # Somebody else's function can raise anything.
        except Exception as cause:
            raise self.refuse(
                "The function of a migration failed.",
                "Fix the error above.",
                cause=f"{type(cause).__name__}: {cause}",
            ) from cause
        if not isinstance(new, SavedRun):
            raise self.refuse(
                "The function of a migration returned no saved run.",
                "Return a new one: dataclasses.replace(run, ...).",
                found=type(new).__name__,
            )
        return new

    def python(self) -> str:
        """Return the expression, with the function by its name."""
        return f"CallFunction({self.function.__qualname__})"


def reset_of(
    optimizer: Optimizer, heirs: Callable[[str], Sequence[str]]
) -> dict[str, str]:
    """Return which moments are reset, under the names that parameters get."""
    return {
        f"{heir}.{moment.rpartition('.')[2]}": reason
        for moment, reason in optimizer.reset.items()
        for heir in heirs(moment.rpartition(".")[0])
    }


def replace_tensors(
    operation: Operation,
    run: SavedRun,
    old: Sequence[str],
    new: Sequence[str],
    function: Callable[[list[Tensor]], list[Tensor]],
) -> SavedRun:
    """Put tensors, which may be none, in the place of the first of others.

    `function` makes the new tensors of the old ones, of weights as of moments.
    If an operation has reset a moment of an old tensor, it counts as reset for
    all new ones.
    """
    gone = set(old)

    def heirs(name: str) -> Sequence[str]:
        return new if name in gone else [name]

    def with_new(names: Iterable[str]) -> list[str]:
        kept = [name for name in names if name == old[0] or name not in gone]
        return [heir for name in kept for heir in heirs(name)]

    def optimizer_with_new(optimizer: Optimizer) -> Optimizer:
        moments = {k: v for k, v in optimizer.moments.items() if k not in gone}
        if new:
            moments |= _new_moments(operation, optimizer, old, new, function)
        return replace(
            optimizer,
            names=with_new(optimizer.names),
            moments=moments,
            reset=reset_of(optimizer, heirs),
        )

    made = function([run.state_dict[name] for name in old])
    tensors = {**run.state_dict, **dict(zip(new, made, strict=True))}
    return replace(
        run,
        state_dict={name: tensors[name] for name in with_new(run.state_dict)},
        optimizers=[optimizer_with_new(each) for each in run.optimizers],
        stored_types={
            (heir, kind): stored
            for (name, kind), stored in run.stored_types.items()
            for heir in with_new([name])
        },
    )


def _new_moments(
    operation: Operation,
    optimizer: Optimizer,
    old: Sequence[str],
    new: Sequence[str],
    function: Callable[[list[Tensor]], list[Tensor]],
) -> dict[str, dict[str, Tensor]]:
    """Make the moments of new tensors, which have the step of the old ones."""
    found = [optimizer.moments.get(name, {}) for name in old]
    steps = [
        float(values(kinds["step"])) if "step" in kinds else None
        for kinds in found
    ]
    alike = all(kinds.keys() == found[0].keys() for kinds in found)
    if not alike or len(set(steps)) > 1:
        shown = ("none" if step is None else str(step) for step in steps)
        raise operation.refuse(
            "The tensors were not updated alike, so no step count fits all of "
            "them.",
            WITHOUT_OPTIMIZER,
            steps=", ".join(shown),
        )
    moments: dict[str, dict[str, Tensor]] = {}
    for kind, step in found[0].items():
        made = [values(step).clone() for _ in new]
        if kind in POWERS:
            made = function([kinds[kind] for kinds in found])
        for name, moment in zip(new, made, strict=True):
            moments.setdefault(name, {})[kind] = moment
    return moments
