"""Edits after the last layer, and around the steps."""

from mutants import BASE, FORECASTER, GRAPH, Mutant

RESCALING = "pred_delta_mean * self.diff_std + self.diff_mean"

CLAMPED = ("0.7.0-graph_lam-clamp",)

STD = ("0.7.0-graph_lam-std",)

STEPS = (
    Mutant(
        "no mean of differences",
        ((GRAPH, RESCALING, "pred_delta_mean * self.diff_std"),),
        "rescaling",
    ),
    Mutant(
        "scaled twice",
        ((GRAPH, RESCALING, f"{RESCALING.replace('+', '* self.diff_std +')}"),),
        "rescaling",
    ),
    Mutant(
        "difference of the other sign",
        ((GRAPH, RESCALING, f"-({RESCALING})"),),
        "rescaling",
    ),
    Mutant(
        "sharper clamping",
        ((BASE, "sigmoid_sharpness = 1", "sigmoid_sharpness = 2"),),
        "clamping",
        says="the sharpness of clamping has changed",
        cases=CLAMPED,
    ),
    Mutant(
        "clamping off centre",
        (
            (BASE, "sigmoid_center = 0", "sigmoid_center = 0.5"),
            (
                BASE,
                "softplus_center - x, beta",
                "softplus_center - 2 * x, beta",
            ),
        ),
        "clamping",
        cases=CLAMPED,
    ),
    Mutant(
        "no clamping",
        (
            (
                GRAPH,
                "self.get_clamped_new_state(rescaled_delta_mean, prev_state)",
                "prev_state + rescaled_delta_mean",
            ),
        ),
        "clamping",
        says="no longer changes values within the limits",
        cases=CLAMPED,
    ),
    Mutant(
        "exponential instead of softplus",
        (
            (
                GRAPH,
                "torch.nn.functional.softplus(pred_std_raw)",
                "torch.exp(pred_std_raw)",
            ),
        ),
        "std",
        cases=STD,
    ),
    Mutant(
        "standard deviation first",
        (
            (
                GRAPH,
                "pred_delta_mean, pred_std_raw = net_output.chunk(",
                "pred_std_raw, pred_delta_mean = net_output.chunk(",
            ),
        ),
        "output",
        cases=STD,
        fixable=True,
    ),
    Mutant(
        "boundary and interior exchanged",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "self.interior_mask * boundary_state\n"
                "                + self.boundary_mask * pred_state",
            ),
        ),
        "boundary",
    ),
    Mutant(
        "boundary left alone",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "pred_state",
            ),
        ),
        "boundary",
    ),
    Mutant(
        "boundary of the first step",
        ((FORECASTER, "boundary_states[:, i]\n", "boundary_states[:, 0]\n"),),
        "rollout",
    ),
    Mutant(
        "state before last never renewed",
        ((FORECASTER, "            prev_prev_state = prev_state\n", ""),),
        "rollout",
    ),
    Mutant(
        "forcing of the first step",
        ((FORECASTER, "forcing_features[:, i]", "forcing_features[:, 0]"),),
        "rollout",
    ),
)
