"""Edits after which weights, arguments or configuration don't fit."""

from mutants import BASE, FORECASTER, GRAPH, LAYERS, NETWORKS, TRAIN, Mutant

HEAD = (
    "        # Compute indices and define clamping functions\n"
    "        self.prepare_clamping_params(datastore)\n"
)

SPLIT = '''
class Parted(torch.nn.Module):
    """A Linear over two inputs side by side, each with a weight."""

    def __init__(self, width, out):
        super().__init__()
        self.node = torch.nn.Linear(width, out)
        self.aggregate = torch.nn.Linear(width, out, bias=False)

    def forward(self, x):
        one, two = x.chunk(2, dim=-1)
        return self.node(one) + self.aggregate(two)


class InteractionNet('''

TRANSPOSED = '''
class InOut(nn.Module):
    """A Linear that keeps its weight as (in, out)."""

    def __init__(self, dim1, dim2):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim1, dim2))
        self.bias = nn.Parameter(torch.empty(dim2))

    def forward(self, x):
        return x @ self.weight + self.bias


def make_mlp('''

FUSED = (
    "        g2m_emb = self.g2m_embedder(\n            self.g2m_features\n"
    "        )  # (num_edges, hidden_dim)\n"
    "        m2g_emb = self.m2g_embedder(\n            self.m2g_features\n"
    "        )  # (num_edges, hidden_dim)\n"
)

FUSED_NOW = (
    "        first = self.edge_first(self.g2m_features).chunk(2, -1)[0]\n"
    "        g2m_emb = self.g2m_embedder(first)\n"
    "        first = self.edge_first(self.m2g_features).chunk(2, -1)[1]\n"
    "        m2g_emb = self.m2g_embedder(first)\n"
)

STATIC = "self.expand_to_batch(self.grid_static_features, batch_size)"

SHAPES = (
    Mutant(
        "weight split",
        (
            (LAYERS, "\nclass InteractionNet(", SPLIT),
            (
                LAYERS,
                "            self.aggr_mlp = utils.make_mlp(aggr_mlp_recipe)\n",
                "            self.aggr_mlp = utils.make_mlp(aggr_mlp_recipe)\n"
                "            self.aggr_mlp[0] = Parted(input_dim, hidden_dim)\n",
            ),
        ),
        "loading",
        fixable=True,
        says="split",
    ),
    Mutant(
        "weights fused",
        (
            (GRAPH, FUSED, FUSED_NOW),
            (
                GRAPH,
                HEAD,
                "        self.edge_first = torch.nn.Linear(3, 2 * hidden_dim)\n"
                "        self.g2m_embedder[0] = torch.nn.Identity()\n"
                "        self.m2g_embedder[0] = torch.nn.Identity()\n" + HEAD,
            ),
        ),
        "loading",
        fixable=True,
        says="fused",
    ),
    Mutant(
        "weights transposed",
        (
            (NETWORKS, "\ndef make_mlp(", TRANSPOSED),
            (NETWORKS, "# Third-party\n", "# Third-party\nimport torch\n"),
            (NETWORKS, "nn.Linear(dim1, dim2)", "InOut(dim1, dim2)"),
        ),
        "loading",
        fixable=True,
        says="transposed",
    ),
    Mutant(
        "constant input added at the end",
        (
            (
                GRAPH,
                f"{STATIC},",
                f"{STATIC},\n                torch.ones_like(prev_state[..., :1]),",
            ),
            (GRAPH, "[self.grid_input_dim] +", "[self.grid_input_dim + 1] +"),
        ),
        "loading",
        fixable=True,
        says="columns added",
    ),
    Mutant(
        "constant input added in the middle",
        (
            (
                GRAPH,
                f"{STATIC},",
                f"torch.ones_like(prev_state[..., :1]),\n                {STATIC},",
            ),
            (GRAPH, "[self.grid_input_dim] +", "[self.grid_input_dim + 1] +"),
        ),
        "loading",
        fixable=True,
        says="columns added",
    ),
    Mutant(
        "input removed",
        (
            (GRAPH, f"{STATIC},", f"{STATIC}[..., 1:],"),
            (GRAPH, "[self.grid_input_dim] +", "[self.grid_input_dim - 1] +"),
        ),
        "loading",
        says="columns removed",
    ),
    Mutant(
        "gain added",
        (
            (
                GRAPH,
                HEAD,
                "        self.gain = torch.nn.Parameter(torch.ones(1))\n"
                + HEAD,
            ),
            (
                GRAPH,
                "pred_delta_mean * self.diff_std",
                "self.gain * pred_delta_mean * self.diff_std",
            ),
        ),
        "loading",
        fixable=True,
        says="added",
    ),
    Mutant(
        "offset added",
        (
            (
                GRAPH,
                HEAD,
                "        self.offset = torch.nn.Parameter(torch.zeros(1))\n"
                + HEAD,
            ),
            (
                GRAPH,
                "pred_delta_mean * self.diff_std",
                "self.offset + pred_delta_mean * self.diff_std",
            ),
        ),
        "loading",
        fixable=True,
        says="added",
    ),
    Mutant(
        "limits no longer saved",
        (
            (
                BASE,
                "torch.tensor(sigmoid_lower_lims)\n",
                "torch.tensor(sigmoid_lower_lims), persistent=False\n",
            ),
            (
                BASE,
                "torch.tensor(sigmoid_upper_lims)\n",
                "torch.tensor(sigmoid_upper_lims), persistent=False\n",
            ),
        ),
        "loading",
        fixable=True,
        says="dropped",
    ),
    Mutant(
        "hidden layer dropped",
        (
            (
                NETWORKS,
                "    layers = []\n",
                "    layers = []\n    blueprint = blueprint[:1] + blueprint[2:]\n"
                "    hidden_layers -= 1\n",
            ),
        ),
        "loading",
        says="dropped",
    ),
    Mutant(
        "argument asked for by another name",
        ((TRAIN, "args.mesh_aggr,", "args.mesh_aggregation,"),),
        "building",
        fixable=True,
        says="mesh_aggregation",
    ),
    Mutant(
        "field of the config renamed",
        (
            (
                "config.py",
                "output_clamping: OutputClamping",
                "clamping: OutputClamping",
            ),
            (
                TRAIN,
                "config.training.output_clamping",
                "config.training.clamping",
            ),
        ),
        "building",
        fixable=True,
        says="",
    ),
    Mutant(
        "loading raises",
        (
            (
                FORECASTER,
                "        prev_prev_state = init_states[:, 0]\n",
                '        raise ValueError("no more")\n',
            ),
        ),
        "error",
        says="no more",
    ),
)
