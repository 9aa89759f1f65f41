"""Edits after which a checkpoint loads, and gives other numbers."""

from mutants import (
    BASE,
    FLAT,
    FORECASTER,
    GRAPH,
    HI_LAM,
    LAYERS,
    LEVELS,
    LOADING,
    MODULE,
    NETWORKS,
    TRAIN,
    Mutant,
)

STATES = (
    "prev_state,\n                prev_prev_state,\n                forcing,"
)
STATIC = "self.expand_to_batch(self.grid_static_features, batch_size)"
MESSAGE = (
    "return self.edge_mlp(torch.cat((edge_attr, x_j, x_i), dim=-1))\n\n"
    "    # pylint"
)
UPDATE = "rec_diff = self.aggr_mlp(torch.cat((rec_rep, edge_rep_aggr), dim=-1))"
RESIDUAL = (
    "rec_rep = self.node_residual_target(rec_rep, edge_rep_aggr) + rec_diff"
)
RESCALING = "pred_delta_mean * self.diff_std + self.diff_mean"
G2M = 'g2m_edge_index = loads_file("g2m_edge_index.pt")  # (2, num_edges)'
REMAP = "        # 2. Specific rename from"
WEIGHT = 'loaded_state_dict["forecaster.predictor.output_map.2.weight"]'
CLAMPED = ("0.7.0-graph_lam-clamp",)
STD = ("0.7.0-graph_lam-std",)


def inputs(states=STATES, static=STATIC):
    """Edit what is concatenated for the grid embedder."""
    old = f"{STATES}\n                {STATIC},"
    new = f"{states}\n                {static},"
    return ((GRAPH, old, new),)


NUMBERS = (
    # What is fed to the first layer.
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
    # Inside of graph layers.
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
    # Layers.
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
        cases=("0.7.0-graph_lam", "0.4.0-graph_lam"),
    ),
    Mutant(
        "gelu",
        ((NETWORKS, "nn.SiLU()", "nn.GELU()"),),
        "activation",
        "grid_embedder.1",
        says="SiLU has become GELU",
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
    # Hyper-parameters.
    Mutant(
        "aggregation of the mesh not passed on",
        ((TRAIN, "        mesh_aggr=args.mesh_aggr,\n", ""),),
        "hyper-parameter",
        cases=("0.7.0-graph_lam-multiscale",),
        says="mesh_aggr='sum' (its default)",
    ),
    Mutant(
        "gnn type not passed on",
        (
            (
                TRAIN,
                '        m2g_gnn_type=getattr(args, "m2g_gnn_type", '
                '"InteractionNet"),\n',
                "",
            ),
        ),
        "hyper-parameter",
        cases=("0.7.0-graph_lam-propagation",),
        says="m2g_gnn_type='InteractionNet' (its default)",
    ),
    Mutant(
        "gnn type of the mesh not passed on",
        (
            (
                TRAIN,
                'args, "mesh_up_gnn_type", "InteractionNet"',
                'args, "mesh_up_type", "InteractionNet"',
            ),
        ),
        "hyper-parameter",
        cases=("0.7.0-hi_lam-propagation",),
        says="mesh_up_gnn_type",
        mends=True,
    ),
    # After the last layer.
    Mutant(
        "no mean of differences",
        ((GRAPH, RESCALING, "pred_delta_mean * self.diff_std"),),
        "rescaling",
    ),
    Mutant(
        "scaled twice",
        ((GRAPH, RESCALING, f"{RESCALING.replace('+', '* self.diff_std +')}"),),
        "rescaling",
    ),
    Mutant(
        "difference of the other sign",
        ((GRAPH, RESCALING, f"-({RESCALING})"),),
        "rescaling",
    ),
    Mutant(
        "sharper clamping",
        ((BASE, "sigmoid_sharpness = 1", "sigmoid_sharpness = 2"),),
        "clamping",
        cases=CLAMPED,
    ),
    Mutant(
        "clamping off centre",
        (
            (BASE, "sigmoid_center = 0", "sigmoid_center = 0.5"),
            (
                BASE,
                "softplus_center - x, beta",
                "softplus_center - 2 * x, beta",
            ),
        ),
        "clamping",
        cases=CLAMPED,
    ),
    Mutant(
        "no clamping",
        (
            (
                GRAPH,
                "self.get_clamped_new_state(rescaled_delta_mean, prev_state)",
                "prev_state + rescaled_delta_mean",
            ),
        ),
        "clamping",
        cases=CLAMPED,
    ),
    Mutant(
        "exponential instead of softplus",
        (
            (
                GRAPH,
                "torch.nn.functional.softplus(pred_std_raw)",
                "torch.exp(pred_std_raw)",
            ),
        ),
        "std",
        cases=STD,
    ),
    Mutant(
        "standard deviation first",
        (
            (
                GRAPH,
                "pred_delta_mean, pred_std_raw = net_output.chunk(",
                "pred_std_raw, pred_delta_mean = net_output.chunk(",
            ),
        ),
        "output",
        cases=STD,
        mends=True,
    ),
    # Around the steps.
    Mutant(
        "boundary and interior exchanged",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "self.interior_mask * boundary_state\n"
                "                + self.boundary_mask * pred_state",
            ),
        ),
        "boundary",
    ),
    Mutant(
        "boundary left alone",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "pred_state",
            ),
        ),
        "boundary",
    ),
    Mutant(
        "boundary of the first step",
        ((FORECASTER, "boundary_states[:, i]\n", "boundary_states[:, 0]\n"),),
        "rollout",
    ),
    Mutant(
        "state before last never renewed",
        ((FORECASTER, "            prev_prev_state = prev_state\n", ""),),
        "rollout",
    ),
    Mutant(
        "forcing of the first step",
        ((FORECASTER, "forcing_features[:, i]", "forcing_features[:, 0]"),),
        "rollout",
    ),
    # What loading does.
    Mutant(
        "weights through half precision",
        (
            (
                MODULE,
                REMAP,
                "        for key, value in loaded_state_dict.items():\n"
                "            if value.is_floating_point():\n"
                "                loaded_state_dict[key] = value.half().to(value)\n"
                + REMAP,
            ),
        ),
        "weights",
        "grid_embedder.0",
    ),
    Mutant(
        "one weight halved",
        ((MODULE, REMAP, f"        {WEIGHT} = {WEIGHT} * 0.5\n{REMAP}"),),
        "weights",
        "output_map.2",
        True,
    ),
    Mutant(
        "weight transposed by loading",
        (
            (
                MODULE,
                REMAP,
                '        name = "forecaster.predictor.encoding_grid_mlp.0.weight"\n'
                "        loaded_state_dict[name] = loaded_state_dict[name].T\n"
                + REMAP,
            ),
        ),
        "weights",
        "encoding_grid_mlp.0",
        True,
    ),
    # Precision and randomness.
    Mutant(
        "embedding in float32",
        (
            (
                GRAPH,
                "g2m_emb = self.g2m_embedder(\n            self.g2m_features\n"
                "        )",
                "g2m_emb = self.g2m_embedder(self.g2m_features)"
                ".float().double()",
            ),
        ),
        "precision",
        "g2m_gnn",
        says="float32",
    ),
    Mutant(
        "statics rounded",
        inputs(static=f"{STATIC}.half().to(forcing)"),
        "precision",
        "grid_embedder",
    ),
    Mutant(
        "output in float32",
        ((GRAPH, RESCALING, f"({RESCALING}).float().to(prev_state)"),),
        "precision",
    ),
    Mutant(
        "half precision in float32 only",
        (
            (
                GRAPH,
                "grid_emb = self.grid_embedder(\n            grid_features\n"
                "        )",
                "grid_emb = self.grid_embedder(grid_features)\n"
                "        if grid_emb.dtype == torch.float32:\n"
                "            grid_emb = grid_emb.bfloat16().float()\n        ",
            ),
        ),
        "precision in float32",
        says="float32",
    ),
    Mutant(
        "noise",
        ((GRAPH, RESCALING, f"{RESCALING} + 0.01 * torch.rand(1)"),),
        "randomness",
    ),
    Mutant(
        "dropout in evaluation",
        (
            (
                GRAPH,
                RESCALING,
                f"torch.nn.functional.dropout({RESCALING}, 0.1, True)",
            ),
        ),
        "randomness",
    ),
    # The graph.
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
    # Modules and their order.
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
