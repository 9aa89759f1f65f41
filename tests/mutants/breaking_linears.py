"""Edits of single linear layers, and of the features that edges have."""

from breaking_shapes import HEAD
from mutants import GRAPH, Mutant


def beside(line):
    """Put a line after those that build the embedders of the grid."""
    return ((GRAPH, HEAD, f"        {line}\n{HEAD}"),)


BOTH = ("0.7.0-graph_lam", "0.3.0-hi_lam")
PARAMETRIZED = "torch.nn.utils.parametrizations"

LINEARS = (
    Mutant(
        "bottleneck in the output map",
        beside(
            "self.output_map[0] = torch.nn.Sequential("
            "torch.nn.Linear(hidden_dim, hidden_dim // 2, bias=False), "
            "torch.nn.Linear(hidden_dim // 2, hidden_dim))"
        ),
        "loading",
        says="factorised output_map.0 into output_map.0.0 and output_map.0.1",
        line="self.output_map[0] = torch.nn.Sequential(",
        cases=BOTH,
    ),
    Mutant(
        "last layer of an encoder factorised, each with a bias",
        beside(
            "self.encoding_grid_mlp[2] = torch.nn.Sequential("
            "torch.nn.Linear(hidden_dim, hidden_dim), "
            "torch.nn.Linear(hidden_dim, hidden_dim))"
        ),
        "loading",
        fixable=True,
        says="factorised encoding_grid_mlp.2 into encoding_grid_mlp.2.0 and "
        "encoding_grid_mlp.2.1",
        cases=("0.7.0-graph_lam-std", "0.2.0-hi_lam"),
    ),
    Mutant(
        "linear layer in a Sequential",
        beside(
            "self.m2g_embedder[2] = torch.nn.Sequential(self.m2g_embedder[2])"
        ),
        "loading",
        fixable=True,
        says="renamed m2g_embedder.2 -> m2g_embedder.2.0",
        cases=BOTH,
    ),
    Mutant(
        "no bias in a layer",
        beside(
            "self.g2m_embedder[0] = torch.nn.Linear(g2m_dim, hidden_dim, "
            "bias=False)"
        ),
        "loading",
        says="dropped g2m_embedder.0.bias",
        cases=BOTH,
    ),
    Mutant(
        "weight norm",
        beside(f"{PARAMETRIZED}.weight_norm(self.grid_embedder[0])"),
        "loading",
        says="grid_embedder.0.parametrizations.weight.original0",
        cases=BOTH,
    ),
    Mutant(
        "spectral norm",
        beside(f"{PARAMETRIZED}.spectral_norm(self.output_map[2])"),
        "loading",
        says="output_map.2.parametrizations.weight.original",
        cases=BOTH,
    ),
    Mutant(
        "length of an edge after its direction",
        (
            (
                GRAPH,
                "self.m2g_embedder(\n            self.m2g_features\n",
                "self.m2g_embedder(\n            "
                "self.m2g_features.roll(-1, dims=-1)\n",
            ),
        ),
        "inputs",
        "m2g_embedder",
        fixable=True,
        says="another order",
        cases=("0.7.0-graph_lam", "0.4.0-hi_lam", "0.1.0-graph_lam"),
    ),
    Mutant(
        "offsets of edges exchanged",
        (
            (
                GRAPH,
                "self.g2m_embedder(\n            self.g2m_features\n",
                "self.g2m_embedder(\n            "
                "self.g2m_features[:, [0, 2, 1]]\n",
            ),
        ),
        "inputs",
        "g2m_embedder",
        fixable=True,
        says="another order",
        cases=("0.7.0-hi_lam", "0.5.0-graph_lam"),
    ),
)
