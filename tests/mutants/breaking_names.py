"""Edits that give modules other names."""

from mutants import FLAT, GRAPH, HI_LAM, LAYERS, Mutant

NAMES = (
    Mutant(
        "module renamed",
        (
            (GRAPH, "encoding_grid_mlp", "grid_encoder"),
            (
                "models/module.py",
                "forecaster.predictor.encoding_grid_mlp",
                "forecaster.predictor.grid_encoder",
            ),
        ),
        "loading",
        fixable=True,
        says="renamed",
        cases=("0.7.0-graph_lam", "0.5.0-hi_lam"),
    ),
    Mutant(
        "graph layer renamed",
        (
            (GRAPH, "self.g2m_gnn =", "self.grid_to_mesh ="),
            (GRAPH, "self.g2m_gnn(", "self.grid_to_mesh("),
        ),
        "loading",
        fixable=True,
        says="renamed",
        cases=("0.7.0-graph_lam", "0.4.0-graph_lam"),
    ),
    Mutant(
        "processor renamed",
        (
            (FLAT, "self.processor ", "self.mesh_processor "),
            (FLAT, "self.processor(", "self.mesh_processor("),
        ),
        "loading",
        fixable=True,
        says="renamed",
    ),
    Mutant(
        "mlp of all graph layers renamed",
        ((LAYERS, "edge_mlp", "message_mlp"),),
        "loading",
        fixable=True,
        says="renamed edge_mlp -> message_mlp",
        line="self.message_mlp = ",
        cases=("0.7.0-graph_lam", "0.7.0-hi_lam"),
    ),
    Mutant(
        "two modules of one shape renamed",
        (
            (GRAPH, "self.g2m_embedder", "self.edges_a"),
            (GRAPH, "self.m2g_embedder", "self.edges_b"),
        ),
        "loading",
        fixable=True,
        says="renamed",
    ),
    Mutant(
        "two modules of one shape renamed, misleadingly",
        (
            (GRAPH, "self.g2m_embedder", "self.m2g_edges"),
            (GRAPH, "self.m2g_embedder", "self.g2m_edges"),
        ),
        "loading",
        fixable=True,
        says="renamed",
    ),
    Mutant(
        "moved under a parent",
        (
            (
                GRAPH,
                "self.output_map = utils.make_mlp(",
                "self.head = torch.nn.ModuleDict()\n"
                '        self.head["output_map"] = utils.make_mlp(',
            ),
            (GRAPH, "self.output_map(", 'self.head["output_map"]('),
        ),
        "loading",
        fixable=True,
        says="renamed output_map -> head.output_map",
    ),
    Mutant(
        "layers of the hierarchy renamed",
        (
            (HI_LAM, "mesh_up_same_gnns", "up_same"),
            (HI_LAM, "mesh_down_same_gnns", "down_same"),
        ),
        "loading",
        fixable=True,
        says="renamed",
        cases=("0.7.0-hi_lam",),
    ),
    Mutant(
        "predictor in two parts",
        (
            (
                GRAPH,
                "self.grid_embedder = utils",
                "self.encoder = torch.nn.ModuleDict()\n"
                '        self.encoder["grid"] = utils',
            ),
            (GRAPH, "self.grid_embedder(", 'self.encoder["grid"]('),
        ),
        "loading",
        fixable=True,
        says="renamed",
    ),
    Mutant(
        "names of two modules exchanged",
        (
            (GRAPH, "self.encoding_grid_mlp", "self.x_embedder"),
            (GRAPH, "self.g2m_embedder", "self.encoding_grid_mlp"),
            (GRAPH, "self.x_embedder", "self.g2m_embedder"),
        ),
        "loading",
        fixable=True,
        says="exchanged",
        cases=("0.7.0-graph_lam", "0.5.0-hi_lam"),
    ),
)
