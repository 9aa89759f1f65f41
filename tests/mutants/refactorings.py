"""Refactorings of upstream's kind: the API changes, what is computed does not.

Three are open pull requests of neural-lam, as edits of 0.7.0.
"""

from mutants import DATA, FORECASTER, MODULE, TRAIN, Mutant

CONFIG = "config.py"
BOTH = ("0.7.0-graph_lam", "0.6.0-graph_lam", "0.7.0-graph_efm-multiscale")
BUILT = "predictor = build_predictor(predictor_class, args, config, datastore)"
HEAD = (
    "    predictor_class: type,\n"
    "    args: Namespace,\n"
    "    config: NeuralLAMConfig,\n"
    "    datastore: BaseDatastore,\n"
    ") -> Any:"
)
LOADER = "load_forecaster_module_from_checkpoint"
SAMPLE = "        return init_states, target_states, forcing, target_times\n"
TRANSFERRED = (
    "        return init_states, target_states, forcing, batch_times\n"
)
TAKEN_APART = (
    "        init_states, target_states, forcing, batch_times = batch\n"
)
# What #637 does in the dataset and around the training step, for any class.
WRAPPED = (
    (
        DATA,
        "import torch\n",
        "import torch\nfrom .batch import ForecastBatch\n",
    ),
    (
        MODULE,
        "import torch\n",
        "import torch\nfrom ..batch import ForecastBatch\n",
    ),
    (
        DATA,
        SAMPLE,
        "        return ForecastBatch(\n"
        "            init_states=init_states,\n"
        "            target_states=target_states,\n"
        "            forcing=forcing,\n"
        "            boundary=torch.zeros_like(forcing),\n"
        "            target_times=target_times,\n"
        "        )\n",
    ),
)
COMMON_STEP = "        init_states, target_states, forcing_features, batch_times = batch\n"
PARTS = "init_states", "target_states", "forcing", "target_times"


def read_as(pattern):
    """Take a batch apart by names, wherever the module does."""
    one, two, three, four = (pattern.format(part) for part in PARTS)
    return (
        (
            MODULE,
            TAKEN_APART,
            f"        init_states, target_states = {one}, {two}\n"
            f"        forcing, batch_times = {three}, {four}\n",
        ),
        (
            MODULE,
            COMMON_STEP,
            f"        init_states, target_states = {one}, {two}\n"
            f"        forcing_features, batch_times = {three}, {four}\n",
        ),
        (MODULE, "batch[0].shape[0]", f"{one}.shape[0]"),
        # Examples are drawn of an evaluation.
        (MODULE, "target = batch[1]", f"target = {two}"),
        (MODULE, "time = batch[3]", f"time = {four}"),
    )


OPEN_PULL_REQUESTS = (
    Mutant(
        "#645: build_predictor looks its class up",
        (
            (TRAIN, HEAD, HEAD.replace("    predictor_class: type,\n", "")),
            (
                TRAIN,
                "    kwargs = dict(\n        datastore=datastore,",
                "    predictor_class = MODELS[args.model]\n"
                "    kwargs = dict(\n        datastore=datastore,",
            ),
            (TRAIN, BUILT, BUILT.replace("predictor_class, ", "")),
        ),
        cases=BOTH,
    ),
    Mutant(
        "#700: classes and loader renamed, the loss moved to the forecaster",
        (
            ("*", "ForecasterModule", "DeterministicForecastingModule"),
            ("*", "ARForecaster", "DeterministicARForecaster"),
            ("*", LOADER, "load_forecasting_module_from_checkpoint"),
            (
                FORECASTER,
                "        self, predictor: StepPredictor, datastore: BaseDatastore\n"
                "    ) -> None:",
                "        self,\n"
                "        predictor: StepPredictor,\n"
                "        datastore: BaseDatastore,\n"
                "        config: object = None,\n"
                '        loss: str = "wmse",\n'
                "    ) -> None:",
            ),
            (
                FORECASTER,
                "        self.predictor = predictor\n",
                "        self.predictor = predictor\n"
                "        self.loss = metrics.get_metric(loss)\n",
            ),
            (
                FORECASTER,
                "from ...datastore import BaseDatastore\n",
                "from ... import metrics\n"
                "from ...datastore import BaseDatastore\n",
            ),
            (MODULE, '        loss: str = "wmse",\n', ""),
            (MODULE, '            loss = getattr(args, "loss", loss)\n', ""),
            (
                MODULE,
                "self.loss = metrics.get_metric(loss)",
                "self.loss = forecaster.loss",
            ),
            (
                TRAIN,
                "DeterministicARForecaster(predictor, datastore)",
                "DeterministicARForecaster(\n"
                "        predictor, datastore, config=config, loss=args.loss\n"
                "    )",
            ),
            (TRAIN, "        loss=args.loss,\n        lr=", "        lr="),
        ),
        cases=BOTH,
    ),
    Mutant(
        "#637: a batch is a named tuple of five parts",
        (
            *WRAPPED,
            *read_as("batch.{}"),
            (
                "batch.py",
                "",
                "from typing import NamedTuple\n\nimport torch\n\n\n"
                "class ForecastBatch(NamedTuple):\n"
                "    init_states: torch.Tensor\n"
                "    target_states: torch.Tensor\n"
                "    forcing: torch.Tensor\n"
                "    boundary: torch.Tensor\n"
                "    target_times: torch.Tensor\n",
            ),
            (
                MODULE,
                TRANSFERRED,
                "        return ForecastBatch(\n"
                "            init_states=init_states,\n"
                "            target_states=target_states,\n"
                "            forcing=forcing,\n"
                "            boundary=batch.boundary,\n"
                "            target_times=batch_times,\n"
                "        )\n",
            ),
        ),
        cases=BOTH,
    ),
)

REFACTORINGS = (
    *OPEN_PULL_REQUESTS,
    Mutant(
        "configuration class moved and re-exported",
        (
            (
                "settings/training.py",
                "",
                "import dataclasses\n\n\n"
                "@dataclasses.dataclass\n"
                "class ClampingSettings:\n"
                "    lower: dict[str, float] = dataclasses.field("
                "default_factory=dict)\n"
                "    upper: dict[str, float] = dataclasses.field("
                "default_factory=dict)\n",
            ),
            ("settings/__init__.py", "", "from .training import *\n"),
            (
                CONFIG,
                "@dataclasses.dataclass\nclass OutputClamping:",
                "from .settings import ClampingSettings as OutputClamping\n\n\n"
                "class _Before:",
            ),
        ),
        cases=(*BOTH, "0.7.0-graph_lam-clamp"),
    ),
    Mutant(
        "argument of build_predictor with a default",
        (
            (
                TRAIN,
                HEAD,
                HEAD.replace(
                    ") -> Any:", "    compiled: bool = False,\n) -> Any:"
                ),
            ),
        ),
        cases=BOTH,
    ),
    Mutant(
        "arguments made keyword-only",
        (
            (TRAIN, HEAD, "    *,\n" + HEAD),
            (
                TRAIN,
                BUILT,
                "predictor = build_predictor(\n"
                "        predictor_class=predictor_class, args=args,\n"
                "        config=config, datastore=datastore\n    )",
            ),
            (
                FORECASTER,
                "        self, predictor:",
                "        self, *, predictor:",
            ),
            (
                TRAIN,
                "ARForecaster(predictor, datastore)",
                "ARForecaster(predictor=predictor, datastore=datastore)",
            ),
            (
                FORECASTER,
                "        self,\n        init_states",
                "        self,\n        *,\n        init_states",
            ),
            (
                MODULE,
                "            init_states, forcing_features, target_states\n",
                "            init_states=init_states,\n"
                "            forcing_features=forcing_features,\n"
                "            boundary_states=target_states,\n",
            ),
        ),
        cases=BOTH,
    ),
    Mutant(
        "build_predictor split, its datastore renamed",
        (
            (
                TRAIN,
                f"def build_predictor(\n{HEAD}",
                "def build_predictor(args, config, ds: BaseDatastore):\n"
                "    cls = MODELS[args.model]\n"
                "    return cls(**predictor_arguments(cls, args, config, ds))\n"
                "\n\n"
                f"def predictor_arguments(\n{HEAD}",
            ),
            (
                TRAIN,
                "    return predictor_class(**kwargs)",
                "    return kwargs",
            ),
            (TRAIN, BUILT, BUILT.replace("predictor_class, ", "")),
        ),
        cases=BOTH,
    ),
    Mutant(
        "layer renamed, its keys mapped by the loader",
        (
            ("*", "self.grid_embedder", "self.grid_encoder"),
            (
                MODULE,
                '        loaded_state_dict = checkpoint["state_dict"]\n',
                '        loaded_state_dict = checkpoint["state_dict"]\n'
                "        for key in list(loaded_state_dict):\n"
                '            new = key.replace(".grid_embedder.", '
                '".grid_encoder.")\n'
                '            new = new.replace("grid_embedder.0", '
                '"grid_encoder.0").replace("grid_embedder.2", '
                '"grid_encoder.2").replace("grid_embedder.3", '
                '"grid_encoder.3")\n'
                "            loaded_state_dict[new] = "
                "loaded_state_dict.pop(key)\n",
            ),
        ),
        cases=("0.7.0-graph_lam", "0.6.0-graph_lam"),
    ),
    Mutant(
        "forecaster under another name, its keys mapped by the loader",
        (
            (MODULE, "self.forecaster", "self.model"),
            (MODULE, '"forecaster.', '"model.'),
            (
                MODULE,
                '        loaded_state_dict = checkpoint["state_dict"]\n',
                '        loaded_state_dict = checkpoint["state_dict"]\n'
                "        for key in list(loaded_state_dict):\n"
                '            if key.startswith("fore" "caster."):\n'
                '                new = "model" + key[len("fore" "caster"):]\n'
                "                loaded_state_dict[new] = "
                "loaded_state_dict.pop(key)\n",
            ),
        ),
        cases=("0.7.0-graph_lam", "0.6.0-graph_lam"),
    ),
    Mutant(
        "batch as a dict",
        (
            *WRAPPED,
            *read_as('batch["{}"]'),
            ("batch.py", "", "ForecastBatch = dict\n"),
            (
                MODULE,
                TRANSFERRED,
                "        batch = dict(batch)\n"
                '        batch["init_states"] = init_states\n'
                '        batch["target_states"] = target_states\n'
                '        batch["forcing"] = forcing\n'
                "        return batch\n",
            ),
        ),
        cases=BOTH,
    ),
    Mutant(
        "batch as a plain tuple of five parts",
        (
            (
                DATA,
                SAMPLE,
                "        boundary = torch.empty((len(forcing), 1, 0))\n"
                "        return init_states, target_states, forcing, boundary, "
                "target_times\n",
            ),
            (
                MODULE,
                TAKEN_APART,
                TAKEN_APART.replace("forcing,", "forcing, boundary,"),
            ),
            (
                MODULE,
                TRANSFERRED,
                TRANSFERRED.replace("forcing,", "forcing, boundary,"),
            ),
            (
                MODULE,
                COMMON_STEP,
                COMMON_STEP.replace("features,", "features, boundary,"),
            ),
            (MODULE, "time = batch[3]", "time = batch[4]"),
        ),
        cases=BOTH,
    ),
    Mutant(
        "loader as a method of the module",
        (
            (
                TRAIN,
                f"def {LOADER}(",
                "def _loaded(",
            ),
            (
                TRAIN,
                "@logger.catch\ndef main(",
                "ForecasterModule.from_checkpoint = staticmethod(_loaded)\n\n\n"
                "@logger.catch\ndef main(",
            ),
        ),
        cases=BOTH,
    ),
    Mutant(
        "MODELS called PREDICTORS",
        (("*", "MODELS", "PREDICTORS"),),
        cases=BOTH,
    ),
    Mutant(
        "forward called rollout",
        (
            (FORECASTER, "def forward(", "def rollout("),
            (MODULE, "= self.forecaster(", "= self.forecaster.rollout("),
            ("models/forecasters/base.py", "def forward(", "def rollout("),
        ),
        cases=BOTH,
    ),
    Mutant(
        "states summed in another order",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "self.interior_mask * pred_state\n"
                "                + self.boundary_mask * boundary_state",
            ),
        ),
    ),
)
