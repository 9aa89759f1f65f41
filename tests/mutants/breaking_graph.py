"""Edits of the graph."""

from mutants import LAYERS, LOADING, Mutant

G2M = 'g2m_edge_index = loads_file("g2m_edge_index.pt")  # (2, num_edges)'
ASSERTED = (
    '    assert m2g_edge_index.min() >= 0, "Negative node index in m2g"\n'
)
M2M = "m2m_edge_index = m2m_edge_index"
FEATURES = "m2m_features = m2m_features"

GRAPHS = (
    Mutant(
        "senders shifted",
        (
            (
                LAYERS,
                "(edge_index[0] + self.num_rec, edge_index[1])",
                "(edge_index[0] + self.num_rec - edge_index[0].min(), "
                "edge_index[1])",
            ),
        ),
        "edges",
        "g2m_gnn.edge_mlp",
        False,
        says="senders shifted",
        cases=("0.7.0-graph_lam-square",),
    ),
    Mutant(
        "edges of the grid moved by one",
        (
            (
                LOADING,
                G2M,
                f"{G2M.split('  #')[0]}\n"
                "    g2m_edge_index[0] -= (g2m_edge_index[0] > "
                "g2m_edge_index[0].min()).long()",
            ),
        ),
        "inputs",
        "g2m_gnn.edge_mlp",
    ),
    Mutant(
        "edge features of the other sign",
        (
            (
                LOADING,
                "g2m_features = g2m_features / longest_edge",
                "g2m_features = g2m_features / longest_edge\n"
                "    g2m_features[:, 1:] *= -1",
            ),
        ),
        "features",
        "g2m_embedder",
        True,
        says="g2m_features",
        line="register_buffer",
    ),
    Mutant(
        "edge features not scaled",
        (
            (
                LOADING,
                "m2g_features = m2g_features / longest_edge",
                "m2g_features = m2g_features",
            ),
        ),
        "features",
        "m2g_embedder",
        True,
        says="m2g_features",
    ),
    Mutant(
        "positions of the mesh exchanged",
        (
            (
                LOADING,
                "        mesh_static_features = mesh_static_features[0]\n",
                "        mesh_static_features = mesh_static_features[0].flip(1)\n",
            ),
        ),
        "features",
        "mesh_embedder",
        True,
        says="mesh_features",
    ),
    Mutant(
        "up edges of the other sign",
        (
            (
                LOADING,
                "mesh_up_features /= longest_edge",
                "mesh_up_features /= -longest_edge",
            ),
        ),
        "features",
        "mesh_up_embedders",
        True,
        cases=("0.7.0-hi_lam",),
    ),
    Mutant(
        "senders of g2m counted from one less",
        (
            (
                LOADING,
                ASSERTED,
                "    g2m_edge_index = torch.stack(\n"
                "        (g2m_edge_index[0] - 1, g2m_edge_index[1])\n    )\n"
                + ASSERTED,
            ),
        ),
        "edges",
        "g2m_gnn.edge_mlp",
        True,
        says="senders shifted by -1 of g2m_edge_index",
        cases=("0.7.0-graph_lam-square",),
    ),
    Mutant(
        "edges of the mesh reversed",
        ((LOADING, f"{M2M}[0]", f"{M2M}[0].flip(0)"),),
        "edges",
        "processor.module_0.edge_mlp",
        True,
        says="senders and receivers exchanged of m2m_edge_index",
        cases=("0.7.0-graph_lam", "0.4.0-graph_lam"),
    ),
    Mutant(
        "edges of the mesh of the other sign",
        ((LOADING, f"{FEATURES}[0]", FEATURES.replace("= ", "= -") + "[0]"),),
        "features",
        "m2m_embedder",
        True,
        says="m2m_features",
        cases=("0.7.0-graph_lam", "0.6.0-graph_lam"),
    ),
    Mutant(
        "positions of the mesh scaled",
        (
            (
                LOADING,
                "m[:, :2] /= mesh_node_features_scaling",
                "m[:, :2] /= 2 * mesh_node_features_scaling",
            ),
        ),
        "features",
        "mesh_embedder",
        True,
        says="mesh_features",
    ),
    # As main from #184 to #643, which is the defect of 0.6.0.
    Mutant(
        "nodes of one level counted",
        (
            (
                LOADING,
                "sum(sf.shape[0] for sf in mesh_static_features)",
                "mesh_static_features[0].shape[0]",
            ),
            ("*", "CURRENT_GRAPH_SPEC_VERSION", "SPEC_VERSION"),
        ),
        "error",
        cases=("0.5.0-hi_lam", "0.5.0-hi_lam_parallel"),
        says="IndexError",
    ),
)
