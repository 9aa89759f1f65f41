"""Where no operation fits: a break, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.base import Operation
from pytest_nlam_compat.migrations.saved_run import SavedRun
from pytest_nlam_compat.migrations.values import values


@dataclass(frozen=True, repr=False)
class HardBreak(Operation):
    """Refuse a run that can't be migrated.

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
        """Refuse the run."""
        raise self.refuse(self.why, self.remedy)


@dataclass(frozen=True, repr=False)
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
