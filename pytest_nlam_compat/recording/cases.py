"""The cases that are recorded of each release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.version import Version

from pytest_nlam_compat.adapters.adapter import Predictor

AR_STEPS = 3
"""Autoregressive steps of a rollout."""

STATE = ("t2m", "r2m", "q2m", "u10")
CLAMPING: Mapping[str, Mapping[str, float]] = {
    # One variable of each kind: bounded above, on both sides, below, free.
    "upper": {"t2m": 320.0, "r2m": 1.0},
    "lower": {"r2m": 0.0, "q2m": 0.0},
}
WEIGHTS: Mapping[str, float] = {
    "t2m": 0.5,
    "r2m": 2.0,
    "q2m": 1.0,
    "u10": 0.25,
}


@dataclass(frozen=True)
class Grid:
    """Grid of a case: nodes along x and y, extent in m.

    The mesh has 3 ** (floor(log3 max(nx, ny)) - 1) nodes along each side at its
    lowest level; each has a grid node within 0.67 mesh distances along x.
    """

    nx: int
    ny: int
    width: float
    height: float


_SMALL = Grid(nx=9, ny=6, width=16.0, height=12.0)
_SQUARE = Grid(nx=10, ny=10, width=16.0, height=16.0)
_WIDE = Grid(nx=27, ny=4, width=54.0, height=16.0)
_SQUARE_WIDE = Grid(nx=27, ny=8, width=54.0, height=54.0)
_LONG = Grid(nx=81, ny=2, width=81.0, height=3.0)


@dataclass(frozen=True)
class Case:
    """One model of one release."""

    name: str
    model: str = "graph_lam"  # in MODELS, or the class if there is a predictor
    grid: Grid = _SMALL
    graph: str = "1level"
    levels: int | None = 1  # of the mesh, at most
    # The command line of train_model; a flag has the value "".
    arguments: Mapping[str, str] = field(default_factory=dict)
    clamping: bool = False
    weighting: bool = False
    samples: int = 2
    forecast: bool = False  # a series of forecasts, one for each sample
    members: int = 0  # of an ensemble of states; 0: no ensemble
    predictor: Predictor | None = None  # of a model that MODELS lacks
    since: str = "0.4.0"  # the first release that has the model
    # Releases that can't run the case, with the reason.
    void: Mapping[str, str] = field(default_factory=dict)

    @property
    def hierarchical(self) -> bool:
        """Whether the graph has levels with edges between them."""
        return self.graph.startswith("hierarchical")


_NO_STD = {
    "0.4.0": "neural-lam 0.4 can't run output_std: its input dimension is "
    "twice that of its output instead of its state (#147)",
}
_NO_HIERARCHY = {
    "0.6.0": "neural-lam 0.6 can't run hierarchical models: graph indices "
    "are moved by the nodes of one mesh level only (utils.py:98, :150; "
    "#643, #680)",
}


def _hierarchical(name: str, model: str, **changes: Any) -> Case:
    settings: dict[str, Any] = {
        "model": model,
        "grid": _WIDE,
        "graph": "hierarchical",
        "levels": 2,
        # Twice the layers would double the file and test nothing more.
        "arguments": {"--processor_layers": "1"},
        "samples": 1,
        "void": _NO_HIERARCHY,
    }
    return Case(name=name, **(settings | changes))


_PROPAGATION = {
    "--g2m_gnn_type": "PropagationNet",
    "--m2g_gnn_type": "PropagationNet",
}


def _efm(name: str, graph: str, layers: str) -> Predictor:
    """Describe a small Graph-EFM with one layer in each of its networks."""
    arguments = {
        "hidden_dim": 4,
        "hidden_layers": 1,
        "latent_dim": 3,
        "prior_dist": "diagonal",
        "num_past_forcing_steps": 1,
        "num_future_forcing_steps": 1,
        "graph_name": graph,
    }
    for network in ("prior", "encoder", "decoder"):
        arguments[f"{network}_{layers}"] = 1
    return Predictor(name, arguments)


CASES = (
    Case("graph_lam"),
    Case(
        "graph_lam-multiscale",
        grid=_WIDE,
        graph="multiscale",
        levels=None,
        arguments={"--mesh_aggr": "mean"},
    ),
    Case("graph_lam-std", arguments={"--output_std": ""}, void=_NO_STD),
    Case("graph_lam-clamp", clamping=True),
    Case(
        "graph_lam-std-clamp",
        arguments={"--output_std": ""},
        clamping=True,
        void=_NO_STD,
    ),
    Case(
        "graph_lam-window00",
        arguments={
            "--num_past_forcing_steps": "0",
            "--num_future_forcing_steps": "0",
        },
    ),
    Case(
        "graph_lam-window21",
        arguments={
            "--num_past_forcing_steps": "2",
            "--num_future_forcing_steps": "1",
        },
    ),
    Case("graph_lam-weights", weighting=True),
    Case("graph_lam-square", grid=_SQUARE),
    Case("graph_lam-deep", arguments={"--hidden_layers": "2"}),
    Case(
        "graph_lam-shallow",
        arguments={"--hidden_layers": "0", "--processor_layers": "1"},
    ),
    # What a run is trained with, away from the defaults.
    Case("graph_lam-mae", arguments={"--loss": "mae", "--lr": "0.01"}),
    Case("graph_lam-forecast", forecast=True),
    # Up to 0.5 only the first member is read.
    Case("graph_lam-ensemble", members=2, since="0.6.0"),
    _hierarchical("hi_lam", "hi_lam"),
    _hierarchical(
        "hi_lam-3level", "hi_lam", grid=_LONG, graph="hierarchical3", levels=3
    ),
    _hierarchical("hi_lam-square", "hi_lam", grid=_SQUARE_WIDE),
    # The only one with two processor layers of several levels each.
    _hierarchical("hi_lam-deep", "hi_lam", arguments={}),
    _hierarchical("hi_lam_parallel", "hi_lam_parallel", arguments={}),
    _hierarchical("hi_lam_parallel-clamp", "hi_lam_parallel", clamping=True),
    Case("graph_lam-propagation", arguments=_PROPAGATION, since="0.7.0"),
    _hierarchical(
        "hi_lam-propagation",
        "hi_lam",
        arguments={
            "--processor_layers": "1",
            **_PROPAGATION,
            "--mesh_up_gnn_type": "PropagationNet",
            "--mesh_down_gnn_type": "PropagationNet",
        },
        since="0.7.0",
        void={},
    ),
    _hierarchical(
        "graph_efm",
        "GraphEFM",
        predictor=_efm("GraphEFM", "hierarchical", "intra_level_layers"),
        since="0.7.0",
        void={},
    ),
    Case(
        "graph_efm-multiscale",
        model="GraphEFMMultiScale",
        grid=_WIDE,
        graph="multiscale",
        levels=None,
        samples=1,
        predictor=_efm("GraphEFMMultiScale", "multiscale", "m2m_layers"),
        since="0.7.0",
    ),
)


def cases_of(release: Version) -> list[Case]:
    """List the cases that a release has, void ones too."""
    return [case for case in CASES if Version(case.since) <= release]
