"""neural-lam's configuration as plain data, and as stand-ins of its classes.

Runs before v0.3.0 have none in their checkpoint, and the loader of 0.7.0 can't
do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.hyper_parameters import New

_MODULE = "neural_lam.config"
TAG = "__config_class__"
_WEIGHTING = ("ManualStateFeatureWeighting", "UniformFeatureWeighting")

#: What is written where nobody says better. Up to v0.2 there was only MEPS.
DEFAULT: Mapping[str, Any] = {
    "datastore": {"kind": "npyfilesmeps", "config_path": ""}
}


def stand_in(config: Mapping[str, Any]) -> InertObject:
    """Build the stand-in of a ``NeuralLAMConfig``.

    Parameters
    ----------
    config : mapping
        As in neural-lam's YAML file: ``datastore`` and ``training``.

    Returns
    -------
    InertObject

    Raises
    ------
    CompatError
        If it is anything else.
    """
    try:
        return _new(config).build()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CompatError(
            "The configuration in the statistics is not one of neural-lam.",
            facts={"cause": f"{type(error).__name__}: {error}"},
            remedy="Write the file again with nlam-compat statistics, or "
            'drop its entry "config".',
        ) from None


def plain_config(config: Any) -> dict[str, Any]:
    """Turn a configuration of the installed neural-lam into plain data.

    Parameters
    ----------
    config : neural_lam.config.NeuralLAMConfig

    Returns
    -------
    dict
        As in its YAML file.
    """
    weighting = config.training.state_feature_weighting
    clamping = config.training.output_clamping
    return {
        "datastore": {
            "kind": str(config.datastore.kind),
            "config_path": str(config.datastore.config_path),
        },
        "training": {
            "state_feature_weighting": {
                TAG: type(weighting).__name__,
                **vars(weighting),
            },
            "output_clamping": {
                "lower": dict(clamping.lower),
                "upper": dict(clamping.upper),
            },
        },
    }


def _new(config: Mapping[str, Any]) -> New:
    datastore = config["datastore"]
    training = config.get("training", {})
    weighting = dict(training.get("state_feature_weighting", {}))
    cls = weighting.pop(TAG, "UniformFeatureWeighting")
    if cls not in _WEIGHTING:
        raise ValueError(f"unknown weighting {cls}")
    inside = (
        {"weights": _numbers(weighting["weights"])}
        if cls == "ManualStateFeatureWeighting"
        else {}
    )
    clamping = training.get("output_clamping", {})
    limits = {side: _numbers(clamping.get(side, {})) for side in _SIDES}
    return _of(
        "NeuralLAMConfig",
        datastore=_of(
            "DatastoreSelection",
            kind=str(datastore["kind"]),
            config_path=str(datastore["config_path"]),
        ),
        training=_of(
            "TrainingConfig",
            state_feature_weighting=_of(cls, **inside),
            output_clamping=_of("OutputClamping", **limits),
        ),
    )


_SIDES = ("lower", "upper")


def _of(name: str, **attributes: Any) -> New:
    return New(f"{_MODULE}.{name}", attributes)


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in table.items()}
