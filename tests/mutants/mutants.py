"""Edits of neural-lam 0.7.0, and what each must be found to be."""

from __future__ import annotations

from dataclasses import dataclass

BASE = "models/step_predictors/base.py"
GRAPH = "models/step_predictors/graph/base.py"
FLAT = "models/step_predictors/graph/graph_lam.py"
LEVELS = "models/step_predictors/graph/hierarchical.py"
HI_LAM = "models/step_predictors/graph/hi_lam.py"
FORECASTER = "models/forecasters/autoregressive.py"
MODULE = "models/module.py"
LAYERS = "gnn_layers.py"
NETWORKS = "utils/networks.py"
LOADING = "utils/graph.py"
TRAIN = "train_model.py"
DATA = "weather_dataset.py"

Edit = tuple[str, str, str]


@dataclass(frozen=True)
class Mutant:
    """One change of neural-lam.

    Attributes
    ----------
    name : str
    edits : tuple of (str, str, str)
        File, what stands there, and what is to stand there instead. Each
        occurrence of it. Where nothing stands, the file is a new one.
    kind : str
        What the diagnosis must call it; empty for a harmless one.
    module : str
        What the name of the first diverging module must contain.
    fixable : bool
        Whether a migration can fix it.
    cases : tuple of str
        References to run.
    says : str
        What the cause must contain.
    line : str
        What stands in the line that the cause must name.
    """

    name: str
    edits: tuple[Edit, ...]
    kind: str = ""
    module: str = ""
    fixable: bool = False
    cases: tuple[str, ...] = ("0.7.0-graph_lam",)
    says: str = ""
    line: str = ""
