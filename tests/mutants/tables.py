"""All mutants."""

from breaking_depth import DEPTH
from breaking_early import EARLY
from breaking_graph import GRAPHS
from breaking_inputs import INPUTS
from breaking_layers import COMPUTED
from breaking_linears import LINEARS
from breaking_names import NAMES
from breaking_once import ONCE
from breaking_runs import RUNS
from breaking_saving import SAVING
from breaking_shapes import SHAPES
from breaking_steps import STEPS
from breaking_widths import WIDTHS
from harmless import HARMLESS
from refactorings import REFACTORINGS

BREAKING = (
    *NAMES,
    *SHAPES,
    *INPUTS,
    *COMPUTED,
    *STEPS,
    *RUNS,
    *GRAPHS,
    *ONCE,
    *EARLY,
    *DEPTH,
    *SAVING,
    *WIDTHS,
    *LINEARS,
)
ALL = (*BREAKING, *HARMLESS, *REFACTORINGS)
