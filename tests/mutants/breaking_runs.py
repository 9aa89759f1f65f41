"""Edits of hyper-parameters, loading, precision and randomness."""

from mutants import DATA, FLAT, GRAPH, MODULE, TRAIN, Mutant

STATES = (
    "prev_state,\n                prev_prev_state,\n                forcing,"
)

STATIC = "self.expand_to_batch(self.grid_static_features, batch_size)"

RESCALING = "pred_delta_mean * self.diff_std + self.diff_mean"

REMAP = "        # 2. Specific rename from"

WEIGHT = 'loaded_state_dict["forecaster.predictor.output_map.2.weight"]'


def inputs(states=STATES, static=STATIC):
    """Edit what is concatenated for the grid embedder."""
    old = f"{STATES}\n                {STATIC},"
    new = f"{states}\n                {static},"
    return ((GRAPH, old, new),)


PREDICTOR = (
    "predictor = predictor_of(predictor_class, args, config, datastore)\n"
)
EMBEDDERS = (
    "        self.g2m_embedder = utils.make_mlp([g2m_dim] + "
    "self.mlp_blueprint_end)\n",
    "        self.m2g_embedder = utils.make_mlp([m2g_dim] + "
    "self.mlp_blueprint_end)\n",
)

RUNS = (
    Mutant(
        "embedders registered in another order",
        ((GRAPH, "".join(EMBEDDERS), "".join(EMBEDDERS[::-1])),),
        "order",
        fixable=True,
    ),
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
        fixable=True,
    ),
    Mutant(
        "learning rate renamed",
        (
            (
                MODULE,
                "        lr: float = 1e-3,\n",
                "        learning_rate: float = 1e-3,\n",
            ),
            (
                MODULE,
                'lr = getattr(args, "lr", lr)',
                'learning_rate = getattr(args, "learning_rate", learning_rate)',
            ),
            (MODULE, "self.hparams.lr ", "self.hparams.learning_rate "),
        ),
        "building",
        says="does not use all hyper-parameters",
        fixable=True,
    ),
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
        # New files are halved too: no step for old ones fixes that.
        "one weight halved",
        ((MODULE, REMAP, f"        {WEIGHT} = {WEIGHT} * 0.5\n{REMAP}"),),
        "weights",
        "output_map.2",
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
        # A step can undo it, and the moments with it: these were right.
    ),
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
        (
            (
                GRAPH,
                RESCALING,
                f"{RESCALING} + 0.01 * torch.rand_like(self.diff_std[:1])",
            ),
        ),
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
    # As main from #507 to #688: only hierarchical models accept all of them.
    Mutant(
        "all arguments passed where models are trained",
        (
            ("*", "build_predictor", "predictor_of"),
            (FLAT, "        **_kwargs: object,\n", ""),
            (
                TRAIN,
                f"    {PREDICTOR}    forecaster = ARForecaster(predictor, "
                "datastore)\n\n    model",
                "    predictor = predictor_class(datastore=datastore, "
                "graph_name=args.graph, g2m_gnn_type=args.g2m_gnn_type, "
                "mesh_up_gnn_type=args.mesh_up_gnn_type)\n"
                "    forecaster = ARForecaster(predictor, datastore)\n\n"
                "    model",
            ),
        ),
        "building",
        says="unexpected keyword argument 'mesh_up_gnn_type'",
        cases=("0.7.0-graph_lam", "0.5.0-graph_lam"),
    ),
    # What a model is trained with.
    Mutant(
        "loss of absolute differences",
        (
            (
                "metrics.py",
                '"wmse": wmse,',
                '"wmse": wmae,',
            ),
        ),
        "loss",
        says="same outputs give a different loss",
    ),
    Mutant(
        # Up to 0.2 there was one number of steps. The command line has both.
        "argument that was never another one",
        (
            (
                TRAIN,
                "    kwargs = dict(\n",
                "    args.ar_steps_eval\n    kwargs = dict(\n",
            ),
        ),
        "building",
        says="no attribute 'ar_steps_eval'",
        cases=("0.2.0-graph_lam",),
    ),
    Mutant(
        "training step raises",
        (
            (
                MODULE,
                "        batch_loss = torch.mean(time_step_loss)\n",
                '        raise RuntimeError("no loss today")\n',
            ),
        ),
        "error",
        says="RuntimeError: no loss today",
        line="raise RuntimeError",
    ),
    Mutant(
        "forcing window stacked by time",
        (
            (
                DATA,
                'forcing_feature_windowed=("forcing_feature", "window")',
                'forcing_feature_windowed=("window", "forcing_feature")',
            ),
        ),
        "batch",
        says="different batch",
    ),
    Mutant(
        "past and future exchanged by the data module",
        (
            (
                DATA,
                "self.num_past_forcing_steps = num_past_forcing_steps\n"
                "        self.num_future_forcing_steps = "
                "num_future_forcing_steps\n        self.ar_steps_train",
                "self.num_past_forcing_steps = num_future_forcing_steps\n"
                "        self.num_future_forcing_steps = "
                "num_past_forcing_steps\n        self.ar_steps_train",
            ),
        ),
        "batch",
        cases=("0.7.0-graph_lam-window21",),
        says="different batch",
    ),
    Mutant(
        "forcing standardised to half precision",
        (
            (
                MODULE,
                ") / self.forcing_std_tiled\n",
                ") / self.forcing_std_tiled\n"
                "            forcing = forcing.half()\n",
            ),
        ),
        "batch",
        says="different batch",
    ),
)
