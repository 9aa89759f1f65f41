"""Causes that no single layer shows: randomness, and what it was built with."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.source_location import source_of

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# What ``args`` calls otherwise than the model.
_OTHER_NAMES = {"graph": "graph_name"}


def randomness(
    subject: ReferenceUnderTest, module: nn.Module
) -> Finding | None:
    """Find out whether two runs differ, with the same noise."""
    first = subject.outputs(module, torch.float64)
    again = subject.outputs(module, torch.float64)
    if all(torch.equal(first[name], again[name]) for name in first):
        return None
    predictor = subject.adapter.step_predictor(module)
    return Finding(
        "randomness",
        "two runs of the same model on the same inputs differ",
        source=source_of(type(predictor)),
        details={"drawn by": "something else than torch's normal noise"},
    )


def lost_hyper_parameter(
    subject: ReferenceUnderTest, module: nn.Module
) -> Finding | None:
    """Find a hyper-parameter of the run that the model was not built with.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        As built by the current code.

    Returns
    -------
    Finding or None
    """
    predictor = subject.adapter.step_predictor(module)
    for name, value in _given(subject).items():
        found = _held(predictor, _OTHER_NAMES.get(name, name))
        if found is None or found == value:
            continue
        if type(found) is not type(value):
            continue
        defaults = _defaults(type(predictor), name)
        fell = " (its default)" if found in defaults else ""
        return Finding(
            "hyper-parameter",
            f"the model was built with {name}={found!r}{fell}, not with that "
            "of the checkpoint",
            source=source_of(type(predictor)),
            details={"the checkpoint says": f"{name}={value!r}"},
        )
    return None


def _given(subject: ReferenceUnderTest) -> dict[str, Any]:
    args = subject.hyper_parameters.get("args")
    if args is not None:
        return dict(vars(args))
    return dict(subject.predictor.arguments) if subject.predictor else {}


def _held(predictor: nn.Module, name: str) -> Any:
    value = vars(predictor).get(name)
    if value is None and name == "mesh_aggr":
        return _aggregation(predictor)
    return value


def _aggregation(predictor: nn.Module) -> Any:
    """Return how the processor aggregates, where the model keeps no note."""
    for name, module in predictor.named_modules():
        if name.startswith("processor.") and hasattr(module, "aggr"):
            return module.aggr
    return None


def _defaults(cls: type, name: str) -> list[Any]:
    parameters = inspect.signature(cls).parameters
    if name not in parameters:
        return []
    return [parameters[name].default]
