"""Hyper-parameters of a saved run as objects of the current code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytest_nlam_compat.adapters.base import Predictor
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError

_CONFIG_MODULE = "neural_lam.config"


def revive(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the inert stand-ins of a saved run into real objects.

    Only ``argparse.Namespace`` and dataclasses of the current code's
    ``neural_lam.config`` are made, by calling them with their fields: what
    the pickle names is never imported on its word.

    Parameters
    ----------
    hyper_parameters : mapping of str to Any
        From `SavedRun.hyper_parameters`, migrated.

    Returns
    -------
    dict of str to Any
        ``args`` an `argparse.Namespace` (or None), ``config`` a
        ``NeuralLAMConfig``, and whatever else the run carries.

    Raises
    ------
    CompatError
        If a class is named that the current code does not have, or a field
        that the class does not take.
    """
    return {name: _revive(value) for name, value in hyper_parameters.items()}


def forcing_window(
    hyper_parameters: Mapping[str, Any], predictor: Predictor | None
) -> Namespace:
    """Say how many steps of forcing a model takes.

    Parameters
    ----------
    hyper_parameters : mapping of str to Any
        Revived.
    predictor : Predictor or None
        Stands for ``args`` where there are none.

    Returns
    -------
    argparse.Namespace
        With ``num_past_forcing_steps`` and ``num_future_forcing_steps``.
    """
    args = hyper_parameters.get("args")
    if args is not None:
        return args  # type: ignore[no-any-return]
    assert predictor is not None
    return Namespace(**predictor.arguments)


def _revive(value: Any) -> Any:
    if isinstance(value, InertObject):
        return _instance(value)
    if isinstance(value, dict):
        return {key: _revive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_revive(item) for item in value)
    return value


def _instance(value: InertObject) -> Any:
    fields = {
        name: _revive(item) for name, item in dict(value.state or {}).items()
    }
    named = value.cls
    if isinstance(named, GlobalRef) and named.path == "argparse.Namespace":
        return Namespace(**fields)
    cls = _config_class(named)
    if cls is None:
        raise CompatError(
            "The hyper-parameters name a class that the current code lacks.",
            facts={"class": getattr(named, "path", named)},
            remedy="Add a migration that replaces it, as "
            "`UnwrapClass(...)` in the step for neural-lam 0.5.0 does.",
        )
    try:
        return cls(*(_revive(item) for item in value.args), **fields)
    except TypeError as cause:
        raise CompatError(
            f"{_CONFIG_MODULE}.{cls.__name__} of the current code does not "
            "take the fields that the checkpoint has.",
            facts={"fields": ", ".join(sorted(fields)), "cause": cause},
            remedy="Add a migration that renames, drops or sets the field.",
        ) from cause


def _config_class(named: Any) -> Any:
    """Return the class of the current code's configuration, if it is one.

    Whatever else its module holds, such as the functions that it imports, a
    pickle has no say over.
    """
    if not isinstance(named, GlobalRef) or named.module != _CONFIG_MODULE:
        return None
    from neural_lam import config

    found = getattr(config, named.name, None)
    if isinstance(found, type) and found.__module__ == _CONFIG_MODULE:
        return found
    return None
