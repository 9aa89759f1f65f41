"""Where there is no operation for it: a break, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.values import values


@dataclass(frozen=True, repr=False)
class HardBreak(Operation):
    """Nothing carries a run across: say why, and what to do.

    Attributes
    ----------
    why : str
        One sentence.
    remedy : str
        What the owner of the run can do.
    """

    why: str
    remedy: str

    def apply(self, run: SavedRun) -> SavedRun:
        """Refuse.

        Raises
        ------
        CompatError
            Always.
        """
        raise self.refuse(self.why, self.remedy)


@dataclass(frozen=True, repr=False)
class CallFunction(Operation):
    """Call a function on the saved run, where no operation says it.

    The function owes what operations give: a new run, the moments along with
    the weights, and an error where it finds nothing to do.

    Attributes
    ----------
    function : callable
        Takes a `SavedRun` and gives a new one. Defined at the top level of a
        module, so that its name says which one it is.
    """

    function: Callable[[SavedRun], SavedRun]

    def __post_init__(self) -> None:
        if not self.function.__qualname__.isidentifier():
            raise ValueError(
                "Not at the top level of a module: "
                f"{self.function.__qualname__}"
            )

    def apply(self, run: SavedRun) -> SavedRun:
        """Call the function.

        Raises
        ------
        CompatError
            What it raises, or it gives no saved run.
        """
        try:
            new: object = self.function(run.map_tensors(values))
        except CompatError:
            raise
        # Not ours to foresee: somebody's function can raise anything.
        except Exception as cause:
            raise self.refuse(
                "The function of a migration failed.",
                "Mend it.",
                cause=f"{type(cause).__name__}: {cause}",
            ) from cause
        if not isinstance(new, SavedRun):
            raise self.refuse(
                "The function of a migration gave no saved run.",
                "Return a new one, dataclasses.replace(run, ...).",
                found=type(new).__name__,
            )
        return new

    def python(self) -> str:
        """Give the expression, with the function by its name."""
        return f"CallFunction({self.function.__qualname__})"
