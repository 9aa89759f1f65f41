"""All mutants."""

from breaking_early import EARLY
from breaking_graph import GRAPHS
from breaking_inputs import INPUTS
from breaking_layers import COMPUTED
from breaking_names import NAMES
from breaking_once import ONCE
from breaking_runs import RUNS
from breaking_shapes import SHAPES
from breaking_steps import STEPS
from harmless import HARMLESS

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
)
ALL = (*BREAKING, *HARMLESS)
