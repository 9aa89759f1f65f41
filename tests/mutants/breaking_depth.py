"""Edits that only show with other numbers of layers, losses or datasets."""

from mutants import DATA, HI_LAM, MODULE, NETWORKS, TRAIN, Mutant

UP_LAYERS = (
    "            self.mesh_up_gnns,\n            self.mesh_up_same_gnns,\n"
)

DEPTH = (
    Mutant(
        "activation after the first hidden layer only",
        (
            (
                NETWORKS,
                "layers.append(nn.SiLU())",
                "layers.append(nn.Identity() if layer_i else nn.SiLU())",
            ),
        ),
        "activation",
        "grid_embedder.3",
        says="SiLU was replaced by Identity",
        cases=("0.7.0-graph_lam-deep", "0.4.0-graph_lam-deep"),
    ),
    Mutant(
        "at least one hidden layer",
        (
            (
                TRAIN,
                "hidden_layers=args.hidden_layers,",
                "hidden_layers=args.hidden_layers or 1,",
            ),
        ),
        "loading",
        says="added",
        cases=("0.7.0-graph_lam-shallow", "0.5.0-graph_lam-shallow"),
    ),
    Mutant(
        "processor layers upwards in another order",
        (
            (
                HI_LAM,
                UP_LAYERS,
                UP_LAYERS.replace(
                    "self.mesh_up_gnns", "self.mesh_up_gnns[::-1]"
                ),
            ),
        ),
        "inputs",
        "mesh_up_gnns",
        cases=("0.7.0-hi_lam-deep", "0.5.0-hi_lam-deep"),
    ),
    Mutant(
        "always the default loss",
        ((MODULE, "metrics.get_metric(loss)", 'metrics.get_metric("wmse")'),),
        "loss",
        says="same outputs give a different loss",
        cases=("0.7.0-graph_lam-mae", "0.5.0-graph_lam-mae"),
    ),
    Mutant(
        "always the default learning rate",
        ((MODULE, "lr = self.hparams.lr ", "lr = 1e-3 "),),
        "hyper-parameter",
        says="lr=0.001",
        cases=("0.7.0-graph_lam-mae", "0.5.0-graph_lam-mae"),
    ),
    Mutant(
        "forcing of a forecast one step late",
        (
            (
                DATA,
                "elapsed_forecast_duration=slice(start_idx, end_idx + 1)",
                "elapsed_forecast_duration=slice(start_idx + 1, end_idx + 2)",
            ),
        ),
        "batch",
        says="different batch",
        cases=("0.7.0-graph_lam-forecast", "0.4.0-graph_lam-forecast"),
    ),
    Mutant(
        "samples of an ensemble counted by time",
        (
            (
                DATA,
                "sample_idx, i_ensemble = divmod(",
                "i_ensemble, sample_idx = divmod(",
            ),
        ),
        "batch",
        says="different batch",
        cases=("0.7.0-graph_lam-ensemble", "0.6.0-graph_lam-ensemble"),
    ),
)
