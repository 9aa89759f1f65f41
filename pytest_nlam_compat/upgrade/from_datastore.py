"""The facts of a dataset from its datastore: this imports neural-lam."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.configuration import plain_config
from pytest_nlam_compat.upgrade.dataset_facts import EXTENT, DatasetFacts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def facts_from_config(path: Path) -> DatasetFacts:
    """Compute the facts of the dataset of a configuration.

    Parameters
    ----------
    path : Path
        neural-lam's ``config.yaml``.

    Returns
    -------
    DatasetFacts

    Raises
    ------
    CompatError
        If there is no neural-lam, or it can't load the dataset.
    """
    try:
        from neural_lam.config import load_config_and_datastore
    except ImportError as error:
        raise CompatError(
            "neural-lam is needed to read a datastore, and can't be imported.",
            facts={"cause": error},
            remedy="Install it, or run nlam-compat statistics where it is "
            "installed and give the file with --statistics.",
        ) from None
    if not path.is_file():
        raise CompatError(
            "There is no such configuration of neural-lam.",
            facts={"file": path},
            remedy="Give the config.yaml that the run was trained with.",
        )
    try:
        config, datastore = load_config_and_datastore(str(path))
    # Whatever a datastore may raise is about the user's files.
    except Exception as error:
        raise CompatError(
            "neural-lam can't load the datastore.",
            facts={"file": path, "cause": f"{type(error).__name__}: {error}"},
            remedy="Correct the configuration, or its files.",
        ) from error
    return facts_of(datastore, plain_config(config))


def facts_of(
    datastore: Any, config: dict[str, Any] | None = None
) -> DatasetFacts:
    """Compute the facts of a dataset.

    Parameters
    ----------
    datastore : neural_lam.datastore.base.BaseRegularGridDatastore
    config : dict, optional
        Its configuration, plain.

    Returns
    -------
    DatasetFacts

    Raises
    ------
    CompatError
        If it has no static features.
    """
    import numpy as np

    def numbers(values: Any) -> list[float]:
        array: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
        return [float(value) for value in array]

    state = datastore.get_standardization_dataarray(category="state")
    static_statistics = datastore.get_standardization_dataarray("static")
    static = datastore.get_dataarray(category="static", split=None)
    if static is None:
        raise CompatError(
            "The dataset has no static features.",
            remedy="Give the dataset that the run was trained on.",
        )
    values = np.asarray(
        static.transpose("grid_index", "static_feature"), dtype=np.float64
    )
    shape = datastore.grid_shape_state
    xy = np.asarray(datastore.get_xy("state", True), dtype=np.float64)
    limits = np.stack((xy.min(axis=0), xy.max(axis=0)), axis=1)
    arrays = {
        "state_mean": state["state_mean"],
        "state_std": state["state_std"],
        "state_diff_mean": state["state_diff_mean_standardized"],
        "state_diff_std": state["state_diff_std_standardized"],
        "static_mean": static_statistics["static_mean"],
        "static_std": static_statistics["static_std"],
        "static_min": values.min(axis=0),
        "static_max": values.max(axis=0),
        EXTENT: limits.ravel(),
    }
    return DatasetFacts(
        {name: numbers(value) for name, value in arrays.items()},
        tuple(map(str, datastore.get_vars_names(category="static"))),
        (int(shape.x), int(shape.y)),
        config,
        {
            category: [str(name) for name in datastore.get_vars_names(category)]
            for category in ("state", "forcing", "static")
        },
    )
