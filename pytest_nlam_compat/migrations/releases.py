"""The releases of neural-lam, and what is fixed about their layouts."""

from __future__ import annotations

from collections.abc import Iterable

RELEASES = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0")

# Persistent buffers of every release: 0.4.0 models/base_graph_model.py,
# prepare_clamping_params (#92). Registered in this order, on the predictor.
CLAMP_BUFFERS = (
    "sigmoid_lower_lims",
    "sigmoid_upper_lims",
    "softplus_lower_lims",
    "softplus_upper_lims",
    "clamp_lower_upper_idx",
    "clamp_lower_idx",
    "clamp_upper_idx",
)


def since(first: str) -> tuple[str, ...]:
    """List a release and those after it."""
    return RELEASES[RELEASES.index(first) :]


def before(first: str) -> tuple[str, ...]:
    """List the releases before one."""
    return RELEASES[: RELEASES.index(first)]


def parameter_names(names: Iterable[str]) -> list[str]:
    """Pick the parameters from the names of a state_dict, in order.

    Parameters
    ----------
    names : iterable of str
        Keys of a state_dict in the order of the file, which is the order in
        which the optimizer numbered the parameters.

    Returns
    -------
    list of str
        All but the clamping buffers, under whatever prefix these are.
    """
    return [
        name for name in names if name.rpartition(".")[2] not in CLAMP_BUFFERS
    ]
