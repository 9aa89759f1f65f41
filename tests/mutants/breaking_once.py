"""Edits of one line that many references show, or that say one thing twice."""

from mutants import BASE, GRAPH, HI_LAM, LAYERS, NETWORKS, Mutant

EMBEDDERS = (
    "self.g2m_embedder = utils.make_mlp([g2m_dim] + self.mlp_blueprint_end)\n"
    "        self.m2g_embedder = "
    "utils.make_mlp([m2g_dim] + self.mlp_blueprint_end)\n"
)
OTHER_ORDER = (
    "self.dec = utils.make_mlp([m2g_dim] + self.mlp_blueprint_end)\n"
    "        self.enc = utils.make_mlp([g2m_dim] + self.mlp_blueprint_end)\n"
)
STACKED = '''class Stacked(torch.nn.Module):
    """Two MLPs of one shape, with their weights one above the other."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp
        for module in mlp:
            for name, value in list(module.named_parameters(recurse=False)):
                both = torch.stack([value, value])
                setattr(module, name, torch.nn.Parameter(both))

    def forward(self, number, x):
        weights = {k: v[number] for k, v in self.mlp.named_parameters()}
        return torch.func.functional_call(self.mlp, weights, (x,))


class BaseGraphModel('''
OUTPUT_MAP = (
    "self.output_map = utils.make_mlp(\n"
    "            [hidden_dim] * (hidden_layers + 1) + [self.grid_output_dim],\n"
    "            layer_norm=False,\n"
    "        )  # No layer norm on this one\n"
)
CLAMPED = ("0.7.0-graph_lam-clamp", "0.7.0-hi_lam_parallel-clamp")


def exchanged(file, one, two):
    """Exchange two names in a file."""
    return (file, one, "exchanged"), (file, two, one), (file, "exchanged", two)


ONCE = (
    Mutant(
        "aggregation by another default",
        (
            (
                LAYERS,
                'aggr: str = "sum",\n    ) -> None:\n        """\n        Create',
                'aggr: str = "mean",\n    ) -> None:\n        """\n        Create',
            ),
        ),
        "aggregation",
        "aggr_module",
        says="SumAggregation was replaced by MeanAggregation",
        line="super().__init__(aggr=aggr)",
        cases=("0.7.0-graph_lam", "0.7.0-graph_efm", "0.1.0-graph_lam"),
    ),
    Mutant(
        "no layer norm by default",
        ((NETWORKS, "layer_norm: bool = True", "layer_norm: bool = False"),),
        "loading",
        says="dropped grid_embedder.3.weight",
        line="return nn.Sequential(*layers)",
        cases=("0.7.0-graph_lam", "0.7.0-hi_lam"),
    ),
    Mutant(
        "wider hidden layers of a helper",
        (
            (
                LAYERS,
                "edge_mlp_recipe = [3 * input_dim] + [hidden_dim]",
                "edge_mlp_recipe = [3 * input_dim + 1] + [hidden_dim]",
            ),
            (
                LAYERS,
                "self.edge_mlp(torch.cat((edge_attr, x_j, x_i), dim=-1))",
                "self.edge_mlp(torch.cat((edge_attr, x_j, x_i, "
                "0 * x_i[..., :1]), dim=-1))",
            ),
        ),
        "loading",
        fixable=True,
        says="columns added",
        line="self.edge_mlp = utils.make_mlp(edge_mlp_recipe)",
        cases=("0.7.0-graph_lam", "0.7.0-graph_lam-propagation"),
    ),
    Mutant(
        "configuration needs one field more",
        (
            (
                "config.py",
                "class TrainingConfig:",
                "class TrainingConfig:\n    seed: int",
            ),
        ),
        # Unpickling calls no constructor, and nothing reads it.
        cases=("0.7.0-graph_lam", "0.2.0-hi_lam", "0.1.0-graph_lam"),
    ),
    Mutant(
        "#656: configuration names several datastores",
        (
            (
                "config.py",
                "    datastore: DatastoreSelection\n",
                "    datastores: dict[str, DatastoreSelection]\n",
            ),
        ),
        cases=("0.7.0-graph_lam", "0.5.0-graph_lam", "0.1.0-graph_lam"),
    ),
    Mutant(
        "class of the configuration renamed",
        (("*", "OutputClamping", "Clamps"),),
        "building",
        says="no class neural_lam.config.OutputClamping",
        cases=("0.7.0-graph_lam", "0.7.0-hi_lam"),
    ),
    Mutant(
        "renamed and registered in the other order",
        (
            (GRAPH, EMBEDDERS, OTHER_ORDER),
            (GRAPH, "self.g2m_embedder(", "self.enc("),
            (GRAPH, "self.m2g_embedder(", "self.dec("),
        ),
        "loading",
        fixable=True,
        says="renamed g2m_embedder -> enc, m2g_embedder -> dec",
        line="self.enc = ",
    ),
    Mutant(
        "weights of two modules stacked",
        (
            (
                GRAPH,
                EMBEDDERS,
                "self.edge_embedders = Stacked("
                "utils.make_mlp([g2m_dim] + self.mlp_blueprint_end))\n",
            ),
            (GRAPH, "self.g2m_embedder(", "self.edge_embedders(0,"),
            (GRAPH, "self.m2g_embedder(", "self.edge_embedders(1,"),
            (GRAPH, "class BaseGraphModel(", STACKED),
        ),
        "loading",
        fixable=True,
        says="stacked g2m_embedder.0.weight, m2g_embedder.0.weight into",
        line="self.edge_embedders = ",
    ),
    Mutant(
        "graph layers exchange their names",
        exchanged(GRAPH, "self.g2m_gnn", "self.m2g_gnn"),
        "inputs",
        "g2m_gnn",
        True,
        says="g2m_gnn and m2g_gnn have exchanged their names",
        cases=("0.7.0-graph_lam", "0.5.0-hi_lam"),
    ),
    Mutant(
        "lists of layers exchange their names",
        exchanged(HI_LAM, "mesh_down_same_gnns", "mesh_up_same_gnns"),
        "inputs",
        "same_gnns",
        True,
        says="mesh_up_same_gnns have exchanged their names",
        cases=("0.7.0-hi_lam",),
    ),
    Mutant(
        "output map in two modules",
        (
            (
                GRAPH,
                OUTPUT_MAP,
                OUTPUT_MAP.replace("output_map", "output_hidden")
                + "        self.output_last = self.output_hidden.pop(-1)\n",
            ),
            (
                GRAPH,
                "net_output = self.output_map(\n            grid_rep\n        )",
                "net_output = self.output_last(self.output_hidden(grid_rep))",
            ),
        ),
        "loading",
        fixable=True,
        says="output_map.2 -> output_last",
        line="self.output_last = ",
        cases=("0.7.0-graph_lam", "0.7.0-hi_lam"),
    ),
    Mutant(
        "activation left out",
        (
            (
                GRAPH,
                "net_output = self.output_map(\n            grid_rep\n        )",
                "net_output = self.output_map[2](self.output_map[0](grid_rep))",
            ),
        ),
        "activation",
        "output_map.2",
        says="SiLU is no longer called",
        line="self.output_map[2](self.output_map[0](grid_rep))",
    ),
    Mutant(
        "renamed, and another activation",
        (
            (GRAPH, "self.encoding_grid_mlp", "self.grid_encoder"),
            (NETWORKS, "nn.SiLU()", "nn.GELU()"),
        ),
        "loading",
        says="renamed encoding_grid_mlp -> grid_encoder; then SiLU was "
        "replaced by GELU",
        line="self.grid_encoder = ",
    ),
    Mutant(
        "activation replaced by nothing",
        (
            (
                NETWORKS,
                "layers.append(nn.SiLU())",
                "layers.append(nn.Identity())",
            ),
        ),
        "activation",
        says="SiLU was replaced by Identity",
        line="nn.Identity()",
    ),
    Mutant(
        "lower limits of clamping raised",
        (
            (
                BASE,
                "self.softplus_lower_lims",
                "(self.softplus_lower_lims - 0.1)",
            ),
        ),
        "clamping",
        says="the limits of clamping have changed",
        cases=CLAMPED,
    ),
    Mutant(
        "sharper softplus",
        ((BASE, "softplus_sharpness = 1", "softplus_sharpness = 2"),),
        "clamping",
        says="the sharpness of clamping has changed",
        cases=CLAMPED,
    ),
    Mutant(
        "clamped by a maximum",
        (
            (
                BASE,
                "new_state[:, :, idx] = self.clamp_lower(\n"
                "                self.inverse_clamp_lower("
                "prev_state[:, :, idx])\n"
                "                + state_delta[:, :, idx]\n"
                "            )",
                "new_state[:, :, idx] = torch.maximum(\n"
                "                new_state[:, :, idx], self.softplus_lower_lims\n"
                "            )",
            ),
        ),
        "clamping",
        says="no longer changes values within the limits",
        cases=CLAMPED,
    ),
    Mutant(
        "upper limits of clamping not passed on",
        (
            (
                BASE,
                "dict(output_clamping_upper) if output_clamping_upper",
                "{} if output_clamping_upper",
            ),
        ),
        "clamping",
        says="other limits of clamping than the checkpoint",
        line="self.register_buffer(",
        cases=CLAMPED,
    ),
)
