"""Edits of what layers compute."""

from mutants import GRAPH, LAYERS, NETWORKS, Mutant

MESSAGE = (
    "return self.edge_mlp(torch.cat((edge_attr, x_j, x_i), dim=-1))\n\n"
    "    # pylint"
)

UPDATE = "rec_diff = self.aggr_mlp(torch.cat((rec_rep, edge_rep_aggr), dim=-1))"

RESIDUAL = (
    "rec_rep = self.node_residual_target(rec_rep, edge_rep_aggr) + rec_diff"
)

COMPUTED = (
    Mutant(
        "message from node, edge, node",
        (
            (
                LAYERS,
                MESSAGE,
                MESSAGE.replace("edge_attr, x_j, x_i", "x_j, edge_attr, x_i"),
            ),
        ),
        "inputs",
        "g2m_gnn.edge_mlp",
        True,
        says="another order",
    ),
    Mutant(
        "message to node before from node",
        ((LAYERS, MESSAGE, MESSAGE.replace("x_j, x_i", "x_i, x_j")),),
        "inputs",
        "g2m_gnn.edge_mlp",
        True,
        says="another order",
        line="self.edge_mlp(torch.cat((edge_attr, x_i, x_j), dim=-1))",
        cases=("0.7.0-graph_lam", "0.6.0-graph_lam"),
    ),
    Mutant(
        "update from aggregate and node",
        (
            (
                LAYERS,
                UPDATE,
                UPDATE.replace(
                    "rec_rep, edge_rep_aggr", "edge_rep_aggr, rec_rep"
                ),
            ),
        ),
        "inputs",
        "g2m_gnn.aggr_mlp",
        True,
        says="another order",
    ),
    Mutant(
        "no residual at nodes",
        ((LAYERS, RESIDUAL, "rec_rep = rec_diff"),),
        "residual",
        "g2m_gnn",
    ),
    Mutant(
        "residual subtracted",
        ((LAYERS, RESIDUAL, RESIDUAL.replace("+", "-")),),
        "residual",
        "g2m_gnn",
    ),
    Mutant(
        "no residual at edges",
        ((LAYERS, "edge_rep = edge_rep + edge_diff", "edge_rep = edge_diff"),),
        "residual",
        "processor.module_0",
    ),
    Mutant(
        "no residual on the grid",
        (
            (
                GRAPH,
                "grid_rep = grid_emb + self.encoding_grid_mlp(",
                "grid_rep = self.encoding_grid_mlp(",
            ),
        ),
        "residual",
        "m2g_gnn",
    ),
    Mutant(
        "mean instead of sum",
        (
            (
                LAYERS,
                "super().__init__(aggr=aggr)",
                'super().__init__(aggr="mean")',
            ),
        ),
        "aggregation",
        "g2m_gnn.aggr_module",
        says="MeanAggregation",
    ),
    Mutant(
        "maximum instead of sum",
        (
            (
                LAYERS,
                "super().__init__(aggr=aggr)",
                'super().__init__(aggr="max")',
            ),
        ),
        "aggregation",
        "g2m_gnn.aggr_module",
        says="MaxAggregation",
    ),
    Mutant(
        "aggregate scaled",
        ((LAYERS, "return aggr, inputs", "return aggr * 0.5, inputs"),),
        "inputs",
        "g2m_gnn.aggr_mlp",
        True,
        says="other units",
    ),
    Mutant(
        "layer norm of another epsilon",
        (
            (
                NETWORKS,
                "nn.LayerNorm(blueprint[-1])",
                "nn.LayerNorm(blueprint[-1], eps=1e-6)",
            ),
        ),
        "normalisation",
        "grid_embedder.3",
        line="nn.LayerNorm(",
        cases=("0.7.0-graph_lam", "0.4.0-graph_lam"),
    ),
    Mutant(
        "gelu",
        ((NETWORKS, "nn.SiLU()", "nn.GELU()"),),
        "activation",
        "grid_embedder.1",
        says="SiLU was replaced by GELU",
        line="nn.GELU()",
    ),
    Mutant(
        "leaky relu",
        ((NETWORKS, "nn.SiLU()", "nn.LeakyReLU()"),),
        "activation",
        "grid_embedder.1",
        says="LeakyReLU",
        cases=("0.5.0-graph_lam",),
    ),
    Mutant(
        "activation at the end",
        (
            (
                GRAPH,
                "layer_norm=False,\n        )  # No layer norm on this one",
                "layer_norm=False,\n        )\n"
                "        self.output_map.append(torch.nn.Tanh())",
            ),
        ),
        "activation",
        "output_map",
        says="Tanh",
    ),
    Mutant(
        "norm after the sum",
        (
            (
                NETWORKS,
                "layers.append(nn.LayerNorm(blueprint[-1]))",
                "layers.append(_Norm(blueprint[-1]))",
            ),
            (
                NETWORKS,
                "def make_mlp(",
                "class _Norm(nn.LayerNorm):\n    def forward(self, x):\n"
                "        return super().forward(x) * 1.001\n\n\ndef make_mlp(",
            ),
        ),
        "normalisation",
        "grid_embedder.3",
        says="_Norm",
    ),
    Mutant(
        "layer of another class",
        (
            (
                GRAPH,
                "self.g2m_gnn = get_gnn_class(g2m_gnn_type)(",
                'self.g2m_gnn = get_gnn_class("PropagationNet")(',
            ),
        ),
        "class",
        "g2m_gnn",
        says="InteractionNet was replaced by PropagationNet",
        line='get_gnn_class("PropagationNet")',
    ),
    Mutant(
        "linear layers of another class",
        (
            (NETWORKS, "nn.Linear(dim1, dim2)", "_Linear(dim1, dim2)"),
            (
                NETWORKS,
                "def make_mlp(",
                "class _Linear(nn.Linear):\n    def forward(self, x):\n"
                "        return super().forward(x) * 1.001\n\n\ndef make_mlp(",
            ),
        ),
        "layer",
        "grid_embedder.0",
        says="Linear was replaced by _Linear",
    ),
)
