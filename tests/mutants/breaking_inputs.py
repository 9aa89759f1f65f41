"""Edits of what modules receive, and of the order of modules."""

from mutants import BASE, FLAT, GRAPH, HI_LAM, LEVELS, Mutant

STATES = (
    "prev_state,\n                prev_prev_state,\n                forcing,"
)

STATIC = "self.expand_to_batch(self.grid_static_features, batch_size)"


def inputs(states=STATES, static=STATIC):
    """Edit what is concatenated for the grid embedder."""
    old = f"{STATES}\n                {STATIC},"
    new = f"{states}\n                {static},"
    return ((GRAPH, old, new),)


INPUTS = (
    Mutant(
        "states exchanged",
        inputs(
            "prev_prev_state,\n                prev_state,\n"
            "                forcing,"
        ),
        "inputs",
        "grid_embedder",
        True,
        says="another order",
    ),
    Mutant(
        "forcing first",
        inputs(
            "forcing,\n                prev_state,\n"
            "                prev_prev_state,"
        ),
        "inputs",
        "grid_embedder",
        True,
        says="another order",
    ),
    Mutant(
        "statics in reverse",
        inputs(static=STATIC.replace("_features,", "_features.flip(1),")),
        "inputs",
        "grid_embedder",
        True,
        says="another order",
    ),
    Mutant(
        "statics of the other sign",
        inputs(static=f"-{STATIC}"),
        "inputs",
        "grid_embedder",
        True,
        says="other units",
    ),
    Mutant(
        "statics halved",
        inputs(static=f"0.5 * {STATIC}"),
        "inputs",
        "grid_embedder",
        True,
        says="other units",
    ),
    Mutant(
        "statics with an offset",
        inputs(static=f"2 * {STATIC} + 1"),
        "inputs",
        "grid_embedder",
        True,
        says="other units",
    ),
    Mutant(
        "statics not standardised",
        (
            (
                BASE,
                "split=None, standardize=True",
                "split=None, standardize=False",
            ),
        ),
        "inputs",
        "grid_embedder",
        True,
        says="other units",
    ),
    Mutant(
        "same forcing twice",
        inputs(
            "prev_state,\n                prev_state,\n                forcing,"
        ),
        "inputs",
        "grid_embedder",
    ),
    Mutant(
        "embedders exchanged",
        (
            (GRAPH, "self.g2m_embedder(", "self.x_embedder("),
            (GRAPH, "self.m2g_embedder(", "self.g2m_embedder("),
            (GRAPH, "self.x_embedder(", "self.m2g_embedder("),
        ),
        "inputs",
        "2",
        True,
    ),
    Mutant(
        "levels embedded in reverse",
        (
            (
                LEVELS,
                "self.mesh_same_embedders, self.m2m_features",
                "reversed(self.mesh_same_embedders), self.m2m_features",
            ),
        ),
        "inputs",
        "mesh_same_embedders",
        True,
        cases=("0.7.0-hi_lam",),
    ),
    Mutant(
        "processor once more",
        (
            (
                FLAT,
                "        return mesh_rep\n",
                "        return self.processor(mesh_rep, m2m_emb_expanded)[0]\n",
            ),
        ),
        "inputs",
        "m2g_gnn",
    ),
    Mutant(
        "same-level step left out",
        (
            (
                HI_LAM,
                "            mesh_rep_levels[level_l], "
                "mesh_same_rep[level_l] = same_gnn(\n"
                "                new_node_rep, new_node_rep, same_edge_rep\n"
                "            )\n\n        return mesh_rep_levels, mesh_same_rep, "
                "mesh_up_rep",
                "            mesh_rep_levels[level_l] = new_node_rep\n\n"
                "        return mesh_rep_levels, mesh_same_rep, mesh_up_rep",
            ),
        ),
        "inputs",
        "",
        cases=("0.7.0-hi_lam",),
    ),
)
