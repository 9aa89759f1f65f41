"""What changed between the releases of neural-lam, one migration a change.

A change is "silent" if a run loads without its migration and gives other
numbers. Runs of v0.1 and v0.2 are weights for one data layout only, that of
MEPS, whose features and their order were built into the code.
"""

from __future__ import annotations

from pytest_nlam_compat.migrations.migration import (
    HasHyperParameter,
    HoldsInstance,
    Migration,
    RegeneratedGraph,
)
from pytest_nlam_compat.migrations.operations import (
    Add,
    FoldDifferenceStatistics,
    FoldMeshPositions,
    FoldStaticFeatures,
    HardBreak,
    MapHyperParameter,
    MoveUnder,
    New,
    NumberFromMinimum,
    PermuteInputColumns,
    RelabelGrid,
    RenameHyperParameter,
    RepeatInputColumn,
    Scale,
    SetHyperParameter,
    UnwrapClass,
)
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS, KIND, PREFIX

INPUTS = "grid_embedder.0"

# The inputs up to v0.2, by their columns from the end; before them come the
# two states, of as many variables as the run has: water -20; at offsets
# -1, 0 and +1 hours of one step each the flux, sine and cosine of the hour,
# sine and cosine of the year -19..-5; x, y, geopotential, border -4..-1.
_WATER, _STATICS = -20, -4
# With the water in three columns of its own, 18 columns of forcing come
# before the static ones: 0..2 water, then 3 + 5 * offset + feature. From v0.3
# each feature is followed through the offsets, with the water in second place.
_FORCING = -22
_FEATURE_MAJOR = (
    *(3 + 5 * offset for offset in range(3)),
    *range(3),
    *(3 + 5 * offset + k for k in range(1, 5) for offset in range(3)),
)


HISTORY: tuple[Migration, ...] = (
    Migration(
        id="0.2.0-output-std",
        since="0.2.0",
        reason="The model may predict a standard deviation (c14b6b4); v0.1 "
        "never did.",
        operations=(SetHyperParameter("args.output_std", False),),
        when=HasHyperParameter("args"),
    ),
    Migration(
        id="0.2.0-loss-names",
        since="0.2.0",
        reason="The losses mse and mae are unweighted; those of v0.1 were "
        "weighted (c14b6b4). Silent in a rollout.",
        operations=(
            MapHyperParameter("args.loss", {"mse": "wmse", "mae": "wmae"}),
        ),
        when=HasHyperParameter("args"),
    ),
    Migration(
        id="0.2.0-evaluation",
        since="0.2.0",
        reason="Which steps and metrics an evaluation logs can be chosen "
        "(c14b6b4). Without it, Lightning's Trainer fails up to 0.6.",
        operations=(
            SetHyperParameter(
                "args.val_steps_to_log", [1, 2, 3, 5, 10, 15, 19]
            ),
            SetHyperParameter("args.metrics_watch", []),
            SetHyperParameter("args.var_leads_metrics_watch", {}),
        ),
        when=HasHyperParameter("args"),
    ),
    Migration(
        id="0.3.0-forcing-window",
        since="0.3.0",
        reason="The window of the forcing can be chosen (#66). It was -1, 0, "
        "+1 around the current state, which is two past steps and no future "
        "step around the predicted one. With the defaults, outputs are "
        "silently wrong by 0.12.",
        operations=(
            SetHyperParameter("args.num_past_forcing_steps", 2),
            SetHyperParameter("args.num_future_forcing_steps", 0),
        ),
        when=HasHyperParameter("args"),
    ),
    Migration(
        id="0.3.0-arguments",
        since="0.3.0",
        reason="Arguments of train_model.py were renamed (#66).",
        operations=(
            RenameHyperParameter("args.n_workers", "num_workers"),
            RenameHyperParameter("args.ar_steps", "ar_steps_train"),
        ),
        when=HasHyperParameter("args"),
    ),
    Migration(
        id="0.3.0-water-window",
        since="0.3.0",
        reason="The water fraction is a forcing with a window: three equal "
        "columns instead of one (#66).",
        operations=(RepeatInputColumn(f"{INPUTS}.weight", _WATER, 3, keep=1),),
    ),
    Migration(
        id="0.3.0-forcing-order",
        since="0.3.0",
        reason="The window is stacked by feature instead of by time (#66). "
        "Silent.",
        operations=(
            PermuteInputColumns(
                f"{INPUTS}.weight", _FEATURE_MAJOR, start=_FORCING
            ),
        ),
    ),
    Migration(
        id="0.3.0-static-order",
        since="0.3.0",
        reason="The order of the static features is geopotential, border, x, "
        "y; it was x, y, geopotential, border (#66). Silent.",
        operations=(
            PermuteInputColumns(
                f"{INPUTS}.weight", (2, 3, 0, 1), start=_STATICS
            ),
        ),
    ),
    Migration(
        id="0.3.0-static-units",
        since="0.3.0",
        reason="The static features are not scaled; coordinates were divided "
        "by the largest one, and the geopotential was scaled to 0 to 1 (#66). "
        "Silent.",
        operations=(
            FoldStaticFeatures(
                INPUTS,
                {
                    "surface_geopotential": "min-max",
                    "border_mask": "raw",
                    "x": "largest-coordinate",
                    "y": "largest-coordinate",
                },
                "raw",
            ),
        ),
    ),
    Migration(
        id="0.3.0-grid-order",
        since="0.3.0",
        reason="Grid nodes are numbered along y first instead of along x "
        "first (#66). Silent. They are counted from the first node that has "
        "an edge in the old order (see 0.6.0-first-nodes): node 0, which is "
        "node 0 of either order.",
        operations=(NumberFromMinimum(), RelabelGrid("y-major", "x-major")),
    ),
    Migration(
        id="0.4.0-static-standardised",
        since="0.4.0",
        reason="The static features are standardised (#96). Silent: outputs "
        "are wrong by 0.36 to 0.47.",
        operations=(FoldStaticFeatures(INPUTS, "raw", "standardised"),),
    ),
    Migration(
        id="0.4.0-clamping-buffers",
        since="0.4.0",
        reason="The limits of output clamping are buffers, empty if nothing "
        "is clamped (#92).",
        operations=tuple(
            Add(name, (0,), buffer=True, before=f"{INPUTS}.weight")
            for name in CLAMP_BUFFERS
        ),
    ),
    Migration(
        id="0.4.0-clamping-config",
        since="0.4.0",
        reason="The config says what to clamp (#92); before, nothing was "
        "clamped.",
        operations=(
            SetHyperParameter(
                "config.training.output_clamping",
                New(
                    "neural_lam.config.OutputClamping",
                    {"lower": {}, "upper": {}},
                ),
            ),
        ),
        when=HasHyperParameter("config.training"),
    ),
    Migration(
        id="0.4.0-difference-statistics",
        since="0.4.0",
        oldest="0.3.0",
        reason="The mdp datastore returns the statistics of differences of "
        "standardised states instead of raw ones (#122). Silent.",
        operations=(FoldDifferenceStatistics("output_map"),),
        when=HasHyperParameter("config.datastore.kind", "mdp"),
    ),
    Migration(
        id="0.4.0-logger",
        since="0.4.0",
        reason="The logger can be chosen; it was always wandb.",
        operations=(
            RenameHyperParameter("args.wandb_project", "logger_project"),
            SetHyperParameter("args.logger", "wandb"),
        ),
        when=HasHyperParameter("args.wandb_project"),
    ),
    Migration(
        id="0.5.0-datastore-kind",
        since="0.5.0",
        reason="The str subclass DatastoreKindStr in the pickled config was "
        "removed, and the file can't be unpickled without it (#113).",
        operations=(UnwrapClass(KIND),),
        when=HoldsInstance(KIND),
    ),
    Migration(
        id="0.5.0-original-graph",
        since="0.5.0",
        reason="create_graph uses the grid in the order of its nodes (#150), "
        "so that it creates another graph than the one that an older run was "
        "trained with.",
        operations=(
            HardBreak(
                "The graph was created again, and is not the one that this run "
                "was trained with.",
                "Pass the original graph directory, without metainfo.yaml.",
            ),
        ),
        when=RegeneratedGraph(),
    ),
    Migration(
        id="0.6.0-first-nodes",
        since="0.6.0",
        oldest="0.3.0",
        reason="InteractionNet no longer numbers the nodes from the first one "
        "that has an edge (#184). Silent: senders are wrong by up to 18 "
        "nodes.",
        operations=(NumberFromMinimum(),),
    ),
    Migration(
        id="0.6.0-animation",
        since="0.6.0",
        reason="An evaluation may draw animations (#218). Without it, "
        "Lightning's Trainer fails in 0.6.",
        operations=(SetHyperParameter("args.create_gif", False),),
        when=HasHyperParameter("args"),
    ),
    Migration(
        id="0.7.0-regenerated-flat-graph",
        since="0.7.0",
        oldest="0.5.0",
        reason="A graph created again by 0.7 has mesh positions in other "
        "units (#323). Silent. The original graph needs nothing.",
        operations=(FoldMeshPositions("mesh_embedder.0.weight"),),
        when=RegeneratedGraph("mesh_embedder.0.weight"),
    ),
    Migration(
        id="0.7.0-regenerated-hierarchical-graph",
        since="0.7.0",
        oldest="0.5.0",
        reason="A graph created again by 0.7 has mesh positions in other "
        "units, and vector differences of the up edges with the opposite sign "
        "(#323). Silent. The original graph needs nothing.",
        operations=(
            FoldMeshPositions("mesh_embedders.*.0.weight"),
            Scale("mesh_up_embedders.*.0.weight", -1.0, columns=(1, 2)),
        ),
        when=RegeneratedGraph("mesh_embedders.0.0.weight"),
    ),
    Migration(
        id="0.7.0-forecaster",
        since="0.7.0",
        reason="ARModel was split: the predictor and its weights are in a "
        "forecaster now (#208).",
        operations=(MoveUnder(PREFIX.rstrip(".")),),
    ),
)
