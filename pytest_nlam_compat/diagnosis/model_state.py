"""Causes in how a model was built and loaded, which need no trace."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_nlam_compat.adapters.training_step import learning_rate
from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.errors import join_some
from pytest_nlam_compat.judging.grade import Result
from pytest_nlam_compat.judging.optimizer_step import saved_rate
from pytest_nlam_compat.under_test.source_lines import source_of

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def find_randomness(
    subject: ReferenceUnderTest, model: nn.Module, result: Result
) -> Diagnosis | None:
    """Roll out again with the same noise, and compare."""
    again = subject.outputs(model, torch.float64)
    # NaN in the same places is no randomness.
    if all(
        torch.equal(tensor.nan_to_num(), again[name].nan_to_num())
        for name, tensor in result.outputs.items()
    ):
        return None
    return Diagnosis(
        "randomness",
        "two runs of the same model on the same inputs differ",
        source=source_of(type(subject.adapter.step_predictor(model))),
        details={"drawn by": "something other than torch's normal noise"},
    )


def find_lost_hyper_parameter(
    subject: ReferenceUnderTest, model: nn.Module
) -> Diagnosis | None:
    """Find a hyper-parameter of the run that the model was not built with."""
    predictor = subject.adapter.step_predictor(model)
    for name, value in _stored(subject).items():
        found = vars(predictor).get(name)
        if type(found) is not type(value) or found == value:
            continue
        parameter = inspect.signature(type(predictor)).parameters.get(name)
        is_default = parameter is not None and parameter.default == found
        default = " (its default)" if is_default else ""
        return Diagnosis(
            "hyper-parameter",
            f"the model was built with {name}={found!r}{default}, not with the "
            "value in the checkpoint",
            source=source_of(type(predictor), "__init__"),
            details={"in the checkpoint": f"{name}={value!r}"},
        )
    return None


def find_lost_learning_rate(
    subject: ReferenceUnderTest, model: nn.Module
) -> Diagnosis | None:
    """Find an optimizer that is not configured as the run was."""
    rate, saved = learning_rate(model), saved_rate(subject)
    if rate == saved:
        return None
    return Diagnosis(
        "hyper-parameter",
        f"the optimizer is configured with lr={rate!r}, not with the value in "
        "the checkpoint",
        source=source_of(type(model), "configure_optimizers"),
        details={"in the checkpoint": f"lr={saved!r}"},
    )


def _stored(subject: ReferenceUnderTest) -> dict[str, Any]:
    args = subject.hyper_parameters.get("args")
    if args is not None:
        return dict(vars(args))
    return dict(subject.predictor.arguments) if subject.predictor else {}


def find_changed_weights(
    subject: ReferenceUnderTest, model: nn.Module, prefix: str = ""
) -> Diagnosis | None:
    """Find weights below a prefix that loading changed, bit for bit."""
    given = subject.migrated.state_dict
    names = [
        name
        for name, tensor in model.state_dict().items()
        if name.startswith(prefix)
        and name in given
        # Cast as the model was: a run may keep float32 buffers that were added.
        and not torch.equal(tensor, given[name].to(tensor))
    ]
    if not names:
        return None
    return Diagnosis(
        "weights",
        "loading changes weights",
        details={"changed by loading": join_some(names)},
    )
