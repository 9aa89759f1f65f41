"""Edits of neural-lam's own loader, of what is saved, and of the data."""

from mutants import DATA, MODULE, TRAIN, Mutant

OLD = ("0.5.0-graph_lam", "0.6.0-graph_lam", "0.5.0-hi_lam")
LOST = "own loader no longer converts checkpoints before 0.7.0"
REMAP = (
    MODULE,
    'loaded_state_dict = checkpoint["state_dict"]',
    'loaded_state_dict = dict(checkpoint["state_dict"])',
)
LENIENT = (
    TRAIN,
    "        weights_only=False,\n    )\n\n\n",
    "        weights_only=False,\n        strict=False,\n    )\n\n\n",
)
SAVED = 'self.save_hyperparameters(ignore=["datastore", "forecaster"])'
ON_LOAD = "    def on_load_checkpoint("


def saved_without(name):
    """Leave a hyper-parameter out of what is saved."""
    new = SAVED.replace("]", f', "{name}"]')
    return ((MODULE, SAVED, new),)


def on_save(*lines):
    """Change what Lightning is about to save."""
    body = "".join(f"        {line}\n" for line in lines)
    hook = f"    def on_save_checkpoint(self, checkpoint):\n{body}\n"
    return ((MODULE, ON_LOAD, hook + ON_LOAD),)


SAVING = (
    Mutant(
        "old names no longer converted",
        (REMAP,),
        "loader",
        cases=OLD,
        says=LOST,
    ),
    Mutant(
        "old names no longer converted, silently",
        (REMAP, LENIENT),
        "loader",
        cases=OLD,
        says=f"{LOST}: it loads them with other outputs",
    ),
    Mutant(
        "own loader builds the default processor",
        (
            (
                TRAIN,
                "    predictor_class = MODELS[args.model]\n"
                "    predictor = build_predictor(predictor_class, args, config, datastore)\n"
                "    forecaster = ARForecaster(predictor, datastore)\n"
                "    return",
                "    predictor_class = MODELS[args.model]\n"
                '    args.mesh_aggr = "sum"\n'
                "    predictor = build_predictor(predictor_class, args, config, datastore)\n"
                "    forecaster = ARForecaster(predictor, datastore)\n"
                "    return",
            ),
        ),
        "loader",
        cases=("0.7.0-graph_lam-multiscale",),
        says="gives other outputs, without an error",
    ),
    Mutant(
        "arguments not saved",
        saved_without("args"),
        "saving",
        says="can't be loaded again: KeyError: 'args'",
    ),
    Mutant(
        "configuration not saved",
        saved_without("config"),
        "saving",
        says="can't be loaded again: TypeError",
    ),
    Mutant(
        "optimizer not saved",
        on_save('checkpoint["optimizer_states"] = []'),
        "saving",
        says="has lost the state of its optimizer",
    ),
    Mutant(
        "weights saved in half precision",
        on_save(
            'states = checkpoint["state_dict"]',
            "for name, value in states.items():",
            "    if value.is_floating_point():",
            "        states[name] = value.half()",
        ),
        "saving",
        says="is loaded with other weights and without an error",
    ),
    Mutant(
        "some weights not saved, and their lack ignored",
        (
            LENIENT,
            *on_save(
                'states = checkpoint["state_dict"]',
                "for name in [n for n in states if 'output_map' in n]:",
                "    del states[name]",
            ),
        ),
        "saving",
        says="is loaded with other weights and without an error",
    ),
    Mutant(
        "learning rate saved as its default",
        on_save(
            'checkpoint["hyper_parameters"]["args"].lr = 1e-2',
        ),
        "saving",
        says="is loaded with other settings of its optimizer",
    ),
    Mutant(
        "transfer hook that nobody calls",
        ((MODULE, "def on_after_batch_transfer(", "def after_transfer("),),
        "batch",
        says="different batch",
    ),
    Mutant(
        "dataset without its last sample",
        (
            (
                DATA,
                "            n_state_samples = len(self.da_state.time) - window + 1\n",
                "            n_state_samples = len(self.da_state.time) - window\n",
            ),
        ),
        "batch",
        says="another number of samples",
    ),
    Mutant(
        "training step in bfloat16",
        (
            (
                MODULE,
                "        _, _, _, time_step_loss = "
                "self._compute_prediction_and_loss(batch)\n"
                "        batch_loss",
                "        kind = batch[0].device.type\n"
                "        with torch.autocast(kind, torch.bfloat16):\n"
                "            _, _, _, time_step_loss = "
                "self._compute_prediction_and_loss(batch)\n"
                "        batch_loss",
            ),
        ),
        "loss",
        says="loss",
    ),
)
