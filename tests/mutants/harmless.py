"""Edits that change nothing that matters."""

from mutants import (
    BASE,
    DATA,
    FLAT,
    FORECASTER,
    GRAPH,
    LAYERS,
    LEVELS,
    LOADING,
    MODULE,
    NETWORKS,
    TRAIN,
    Mutant,
)

TRANSFER = """\
    def on_after_batch_transfer(self, batch, dataloader_idx):
        def stat(of, name):
            stats = self._datastore.get_standardization_dataarray(of)
            values = stats[f"{of}_{name}"].values
            return torch.tensor(values, dtype=torch.float32, device=init.device)
        init, target, forcing, times = batch
        mean, std = stat("state", "mean"), stat("state", "std")
        width = forcing.shape[-1] // len(stat("forcing", "mean"))
        means = stat("forcing", "mean").repeat_interleave(width)
        stds = stat("forcing", "std").repeat_interleave(width)
        forcing = (forcing - means) / stds
        return (init - mean) / std, (target - mean) / std, forcing, times

"""
LOADER = "    def train_dataloader(self)"

HARMLESS = (
    Mutant(
        "transfer hook moved to the data module",
        (
            (MODULE, "def on_after_batch_transfer(", "def after_transfer("),
            (DATA, LOADER, TRANSFER + LOADER),
        ),
    ),
    Mutant(
        "module called through a function that the model keeps",
        (
            (
                GRAPH,
                "        # decoder\n",
                "        self.encode = lambda x: self.encoding_grid_mlp(x)\n"
                "        # decoder\n",
            ),
            (
                GRAPH,
                "grid_emb + self.encoding_grid_mlp(",
                "grid_emb + self.encode(",
            ),
        ),
    ),
    Mutant(
        "local renamed",
        ((GRAPH, "net_output", "raw_output"),),
    ),
    Mutant(
        "argument renamed",
        ((LAYERS, "edge_rep", "edge_representation"),),
    ),
    Mutant(
        "type hints",
        (
            (
                LAYERS,
                'aggr: str = "sum",\n    ) -> None:',
                'aggr: str = "sum",\n    ) -> "None":',
            ),
            (NETWORKS, "layers = []", "layers: list[nn.Module] = []"),
        ),
    ),
    Mutant(
        "sum in another order",
        (
            (
                LAYERS,
                "self.node_residual_target(rec_rep, edge_rep_aggr) + rec_diff",
                "rec_diff + self.node_residual_target(rec_rep, edge_rep_aggr)",
            ),
        ),
    ),
    Mutant(
        "rescaling by addcmul",
        (
            (
                GRAPH,
                "pred_delta_mean * self.diff_std + self.diff_mean",
                "torch.addcmul(self.diff_mean, pred_delta_mean, self.diff_std)",
            ),
        ),
    ),
    Mutant(
        "mask by where",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "torch.where(self.boundary_mask > 0, boundary_state, "
                "pred_state)",
            ),
        ),
    ),
    Mutant(
        "neutral argument",
        (
            (
                LAYERS,
                'aggr: str = "sum",\n    ) -> None:',
                'aggr: str = "sum",\n        dropout: float = 0.0,\n'
                "    ) -> None:",
            ),
        ),
    ),
    Mutant(
        "buffer that is not saved",
        (
            (
                BASE,
                "self.output_std = bool(output_std)",
                'self.register_buffer("ones", torch.ones(3), '
                "persistent=False)\n        self.output_std = bool(output_std)",
            ),
        ),
    ),
    Mutant(
        "embedders called in another order",
        (
            (
                GRAPH,
                "        g2m_emb = self.g2m_embedder(\n"
                "            self.g2m_features\n"
                "        )  # (num_edges, hidden_dim)\n",
                "",
            ),
            (
                GRAPH,
                "        mesh_emb = self.embedd_mesh_nodes()\n",
                "        mesh_emb = self.embedd_mesh_nodes()\n"
                "        g2m_emb = self.g2m_embedder(self.g2m_features)\n",
            ),
        ),
    ),
    Mutant(
        "method extracted",
        (
            (
                LAYERS,
                "return self.edge_mlp(torch.cat((edge_attr, x_j, x_i), "
                "dim=-1))\n\n    # pylint: disable-next=signature-differs",
                "return self.edge_mlp(self.joined(edge_attr, x_j, x_i))\n\n"
                "    def joined(self, *parts):\n"
                "        return torch.cat(parts, dim=-1)\n",
            ),
        ),
    ),
    Mutant(
        "dropout of nothing",
        (
            (
                NETWORKS,
                "    return nn.Sequential(*layers)",
                "    layers.append(nn.Dropout(0.0))\n"
                "    return nn.Sequential(*layers)",
            ),
        ),
    ),
    Mutant(
        "identity behind an embedder",
        (
            (
                GRAPH,
                "grid_rep = grid_emb + self.encoding_grid_mlp(",
                "grid_rep = torch.nn.Identity()(grid_emb) + "
                "self.encoding_grid_mlp(",
            ),
        ),
    ),
    Mutant(
        "division instead of multiplication",
        (
            (
                "utils/buffer_list.py",
                "return self.__imul__(1.0 / other)",
                "for tensor in self:\n            tensor /= other\n"
                "        return self",
            ),
        ),
        cases=("0.7.0-hi_lam",),
    ),
    Mutant(
        "default of a required argument",
        ((FLAT, "hidden_dim: int = 64", "hidden_dim: int = 128"),),
    ),
    Mutant(
        "loss by another name, too",
        (
            (
                "metrics.py",
                "DEFINED_METRICS = {",
                "METRICS = DEFINED_METRICS = {",
            ),
        ),
    ),
    Mutant(
        "new command line argument",
        (
            (
                TRAIN,
                '    core_group.add_argument("--seed"',
                '    core_group.add_argument("--note", default="")\n'
                '    core_group.add_argument("--seed"',
            ),
        ),
    ),
    Mutant(
        "levels by index",
        (
            (
                LEVELS,
                "for level_l, gnn in enumerate(self.mesh_init_gnns, start=1):",
                "for level_l in range(1, self.num_levels):\n"
                "            gnn = self.mesh_init_gnns[level_l - 1]",
            ),
        ),
        cases=("0.7.0-hi_lam-3level",),
    ),
    Mutant(
        "edge index as long, by contiguous",
        (
            (
                LAYERS,
                'self.register_buffer("edge_index", edge_index, '
                "persistent=False)",
                'self.register_buffer(\n            "edge_index", '
                "edge_index.long().contiguous(), persistent=False\n        )",
            ),
        ),
    ),
    Mutant(
        "hidden method in the module",
        (
            (
                MODULE,
                "    def configure_optimizers(self)",
                '    def note(self) -> str:\n        return ""\n\n'
                "    def configure_optimizers(self)",
            ),
        ),
    ),
    Mutant(
        "assertion in loading",
        (
            (
                LOADING,
                "    n_levels = len(m2m_edge_index)\n",
                "    n_levels = len(m2m_edge_index)\n    assert n_levels > 0\n",
            ),
        ),
    ),
    Mutant(
        "new argument of the module with a default",
        (
            (
                MODULE,
                "        lr: float = 1e-3,\n",
                "        lr: float = 1e-3,\n        warmup: int = 0,\n",
            ),
        ),
        cases=("0.7.0-graph_lam", "0.6.0-graph_lam"),
    ),
    Mutant(
        "training step that asks for its trainer",
        (
            (
                MODULE,
                "        batch_loss = torch.mean(time_step_loss)\n",
                "        batch_loss = torch.mean(time_step_loss)\n"
                "        batch_loss = batch_loss / self.trainer.world_size\n",
            ),
        ),
    ),
)
