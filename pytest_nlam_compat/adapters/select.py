"""The adapter for the current code, by what it offers."""

from __future__ import annotations

from pytest_nlam_compat.adapters.base import Adapter
from pytest_nlam_compat.adapters.probe import CurrentCode, has
from pytest_nlam_compat.errors import CompatError

# What each era is known by: (module, name).
_FORECASTER = ("neural_lam.models", "ForecasterModule")
_ARMODEL = ("neural_lam.models.ar_model", "ARModel")


def select(current: CurrentCode) -> Adapter:
    """Choose the adapter of the current code.

    Parameters
    ----------
    current : CurrentCode

    Returns
    -------
    Adapter

    Raises
    ------
    CompatError
        If neither API era is recognised.
    """
    if has(*_FORECASTER):
        from pytest_nlam_compat.adapters.forecaster import ForecasterAdapter

        return ForecasterAdapter(current)
    if has(*_ARMODEL):
        from pytest_nlam_compat.adapters.armodel import ARModelAdapter

        return ARModelAdapter(current)
    raise CompatError(
        "The API of this neural_lam is not known.",
        facts={
            "path": current.path,
            "probed": " and ".join(
                ".".join(e) for e in (_FORECASTER, _ARMODEL)
            ),
            "found": "neither",
        },
        remedy="Implement the hook pytest_nlam_compat_adapter in the "
        "conftest.py of neural-lam: it returns an object with the methods of "
        "pytest_nlam_compat.adapters.base.Adapter.",
    )
