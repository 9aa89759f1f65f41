"""neural-lam's configuration: as plain data, and as inert objects.

Checkpoints before v0.3.0 have none, and the loader of 0.7.0 requires one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.operations.hyper_parameters import New

_CLASS = "__config_class__"
_MANUAL, _UNIFORM = "ManualStateFeatureWeighting", "UniformFeatureWeighting"

DEFAULT: Mapping[str, Any] = {
    "datastore": {"kind": "npyfilesmeps", "config_path": ""}
}
"""Written if the user passes none. Up to v0.2 there was only MEPS."""


def inert_config(config: Mapping[str, Any]) -> InertObject:
    """Build the stand-in of a ``NeuralLAMConfig`` from its YAML file's content.

    Anything else is refused with a CompatError.
    """
    try:
        return _new_config(config).build()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CompatError(
            "The configuration in the statistics is not one of neural-lam.",
            facts={"cause": f"{type(error).__name__}: {error}"},
            remedy="Write the file again with nlam-compat statistics, or "
            'remove its entry "config".',
        ) from None


def plain_config(config: Any) -> dict[str, Any]:
    """Convert a ``NeuralLAMConfig`` to plain data, as in its YAML file."""
    weighting = config.training.state_feature_weighting
    clamping = config.training.output_clamping
    return {
        "datastore": {
            "kind": str(config.datastore.kind),
            "config_path": str(config.datastore.config_path),
        },
        "training": {
            "state_feature_weighting": {
                _CLASS: type(weighting).__name__,
                **vars(weighting),
            },
            "output_clamping": {
                "lower": dict(clamping.lower),
                "upper": dict(clamping.upper),
            },
        },
    }


def _new_config(config: Mapping[str, Any]) -> New:
    datastore = config["datastore"]
    training = config.get("training", {})
    weighting = dict(training.get("state_feature_weighting", {}))
    cls = weighting.pop(_CLASS, _UNIFORM)
    if cls not in (_MANUAL, _UNIFORM):
        raise ValueError(f"unknown weighting {cls}")
    weights = (
        {"weights": _numbers(weighting["weights"])} if cls == _MANUAL else {}
    )
    clamping = training.get("output_clamping", {})
    return _new(
        "NeuralLAMConfig",
        datastore=_new(
            "DatastoreSelection",
            kind=str(datastore["kind"]),
            config_path=str(datastore["config_path"]),
        ),
        training=_new(
            "TrainingConfig",
            state_feature_weighting=_new(cls, **weights),
            output_clamping=_new(
                "OutputClamping",
                lower=_numbers(clamping.get("lower", {})),
                upper=_numbers(clamping.get("upper", {})),
            ),
        ),
    )


def _new(name: str, **attributes: Any) -> New:
    return New(f"neural_lam.config.{name}", attributes)


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in table.items()}
