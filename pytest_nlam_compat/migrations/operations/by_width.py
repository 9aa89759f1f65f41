"""Operations on columns whose places depend on the size of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_nlam_compat.migrations.operations.base import (
    Operation,
    nothing_matched,
)
from pytest_nlam_compat.migrations.operations.columns import width_of
from pytest_nlam_compat.migrations.operations.tensors import full_matches
from pytest_nlam_compat.migrations.saved_run import SavedRun


@dataclass(frozen=True, repr=False)
class ByWidth(Operation):
    """Operations for each number of input columns that a weight can have.

    How many there are depends on the variables of a dataset, or on the hidden
    dimension. A run with another number is refused, not left as it is.

    Attributes
    ----------
    names : str
        Pattern of weights (out, in), all of one width.
    operations : mapping of int to tuple of Operation
        What to apply, by the width.
    """

    names: str
    operations: Mapping[int, tuple[Operation, ...]]

    def apply(self, run: SavedRun) -> SavedRun:
        """Apply those of the run's own width."""
        found = full_matches(self.names, run)
        if not found:
            raise nothing_matched(self, run, self.names)
        widths = {width_of(self, n, run.state_dict[n]) for n in found}
        if not widths <= {*self.operations} or len(widths) > 1:
            raise self.refuse(
                f"Nothing says what to do with {self.names!r} of this run.",
                "Find out what each of its columns is, and add operations for "
                "their number.",
                expected=f"{', '.join(map(str, self.operations))} columns",
                found=f"{', '.join(map(str, sorted(widths)))} columns",
            )
        [width] = widths
        for operation in self.operations[width]:
            run = operation.apply(run)
        return run
