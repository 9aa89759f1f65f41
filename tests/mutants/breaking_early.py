"""Edits under references before 0.4.0, which hold no trace."""

from dataclasses import replace

from breaking_graph import GRAPHS
from breaking_inputs import INPUTS
from breaking_layers import COMPUTED
from breaking_names import NAMES
from breaking_runs import RUNS
from breaking_steps import STEPS

_KNOWN = {
    mutant.name: mutant
    for mutant in (*NAMES, *INPUTS, *COMPUTED, *STEPS, *RUNS, *GRAPHS)
}


def early(name, *cases, **other):
    """Take an edit again; the same is expected, or what is passed here."""
    return replace(
        _KNOWN[name], name=f"{name}, {cases[0]}", cases=cases, **other
    )


EARLY = (
    # Newer references show what a layer computes,
    early("layer norm of another epsilon", "0.1.0-graph_lam"),
    early("gelu", "0.2.0-hi_lam"),
    early("activation at the end", "0.3.0-graph_lam"),
    early("no residual at nodes", "0.1.0-hi_lam"),
    early("mean instead of sum", "0.2.0-hi_lam"),
    early("layer of another class", "0.1.0-hi_lam_parallel"),
    early("weights through half precision", "0.3.0-hi_lam"),
    # what an embedder receives: of 17 variables, of 5 and of 4,
    early(
        "states exchanged",
        "0.1.0-graph_lam",
        "0.2.0-hi_lam",
        "0.7.0-graph_lam",
    ),
    early("statics in reverse", "0.2.0-hi_lam_parallel"),
    early("statics not standardised", "0.3.0-hi_lam_parallel"),
    early("edge features of the other sign", "0.3.0-hi_lam"),
    early("edge features not scaled", "0.2.0-hi_lam_parallel", kind=""),
    early("up edges of the other sign", "0.1.0-hi_lam"),
    # what a graph layer gathers,
    early("message to node before from node", "0.2.0-graph_lam"),
    early("update from aggregate and node", "0.3.0-graph_lam"),
    early("edges of the mesh reversed", "0.2.0-graph_lam"),
    # and what comes after the last layer.
    early("scaled twice", "0.2.0-graph_lam"),
    early("boundary left alone", "0.3.0-hi_lam_parallel"),
    early("forcing of the first step", "0.1.0-hi_lam"),
    early("noise", "0.2.0-hi_lam"),
    early("no residual on the grid", "0.1.0-graph_lam"),
    early("processor once more", "0.3.0-graph_lam"),
    # Here it is seen in float32 only.
    early(
        "embedding in float32",
        "0.3.0-graph_lam",
        kind="error in float32",
        module="",
        says="must have the same dtype",
    ),
    early("module renamed", "0.1.0-graph_lam", "0.3.0-hi_lam"),
)
