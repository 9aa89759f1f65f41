"""Edits that need a step for models of every width, and for all layers."""

from breaking_layers import MESSAGE
from mutants import GRAPH, LAYERS, Mutant

OUTPUT = (
    "        self.output_map = utils.make_mlp(\n"
    "            [hidden_dim] * (hidden_layers + 1) + [self.grid_output_dim],\n"
    "            layer_norm=False,\n        )"
)
HIDDEN = (
    "        self.output_mlp = utils.make_mlp(\n"
    "            [hidden_dim] * (hidden_layers + 1), layer_norm=False\n"
    "        )\n"
)
HEAD = (
    "        self.output_head = torch.nn.Linear(\n"
    "            hidden_dim, self.grid_output_dim\n        )"
)
HEADS = (
    "        states = datastore.get_num_data_vars('state')\n"
    "        self.mean_head = torch.nn.Linear(hidden_dim, states)\n"
    "        if self.output_std:\n"
    "            self.std_head = torch.nn.Linear(hidden_dim, states)\n"
)
MAPPED = (
    "        net_output = self.output_map(\n            grid_rep\n        )"
)
HIDDEN_NOW = (
    "        hidden = torch.nn.functional.silu(self.output_mlp(grid_rep))\n"
)
EMBEDDER = (
    "        self.grid_embedder = utils.make_mlp(\n"
    "            [self.grid_input_dim] + self.mlp_blueprint_end\n        )\n"
)
ENCODER = (
    "        self.encoding_grid_mlp = utils.make_mlp(\n"
    "            [hidden_dim] + self.mlp_blueprint_end\n        )\n"
)
DEFAULT = '        aggr: str = "sum",\n'
OF_ALL_KINDS = (
    *("0.7.0-graph_lam", "0.7.0-graph_lam-propagation", "0.7.0-hi_lam"),
    *("0.7.0-hi_lam_parallel", "0.7.0-graph_efm", "0.2.0-graph_lam"),
)
FACTORS = "torch.nn.Linear({}, hidden_dim, bias=False)"

WIDTHS = (
    Mutant(
        "message in all layers",
        (
            (
                LAYERS,
                MESSAGE,
                MESSAGE.replace("edge_attr, x_j, x_i", "x_i, edge_attr, x_j"),
            ),
        ),
        "inputs",
        "edge_mlp",
        fixable=True,
        says="another order",
        cases=OF_ALL_KINDS,
    ),
    Mutant(
        "output map as a hidden part and a head",
        (
            (GRAPH, OUTPUT, HIDDEN + HEAD),
            (
                GRAPH,
                MAPPED,
                HIDDEN_NOW + "        net_output = self.output_head(hidden)",
            ),
        ),
        "loading",
        fixable=True,
        cases=("0.7.0-graph_lam", "0.7.0-graph_lam-std", "0.3.0-hi_lam"),
    ),
    Mutant(
        "output map with a head for each output",
        (
            (GRAPH, OUTPUT, HIDDEN + HEADS),
            (
                GRAPH,
                MAPPED,
                HIDDEN_NOW
                + "        net_output = self.mean_head(hidden)\n"
                + "        if self.output_std:\n"
                + "            heads = net_output, self.std_head(hidden)\n"
                + "            net_output = torch.cat(heads, dim=-1)",
            ),
        ),
        "loading",
        fixable=True,
        cases=(
            *("0.7.0-graph_lam", "0.7.0-graph_lam-std", "0.2.0-graph_lam"),
            "0.7.0-graph_efm",
        ),
    ),
    Mutant(
        "square weight factorised",
        (
            (
                GRAPH,
                ENCODER,
                ENCODER + "        self.encoding_grid_mlp[0] = "
                "torch.nn.Sequential(\n            "
                + FACTORS.format("hidden_dim")
                + ",\n            torch.nn.Linear(hidden_dim, hidden_dim),\n"
                "        )\n",
            ),
        ),
        "loading",
        fixable=True,
        says="factorised encoding_grid_mlp.0 into encoding_grid_mlp.0.0 and",
        cases=("0.7.0-graph_lam", "0.1.0-graph_lam"),
    ),
    Mutant(
        "embedder factorised",
        (
            (
                GRAPH,
                EMBEDDER,
                EMBEDDER + "        self.grid_embedder[0] = "
                "torch.nn.Sequential(\n            "
                + FACTORS.format("self.grid_input_dim")
                + ",\n            torch.nn.Linear(hidden_dim, hidden_dim),\n"
                "        )\n",
            ),
        ),
        "loading",
        fixable=True,
        says="factorised grid_embedder.0 into grid_embedder.0.0 and",
        cases=("0.7.0-graph_lam", "0.1.0-graph_lam"),
    ),
    Mutant(
        "default of the aggregation",
        ((LAYERS, DEFAULT, DEFAULT.replace("sum", "mean")),),
        "aggregation",
        cases=OF_ALL_KINDS,
    ),
)
