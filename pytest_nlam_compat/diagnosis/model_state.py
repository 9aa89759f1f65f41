"""Causes in how a model was built and loaded, which need no trace."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis, source_of
from pytest_nlam_compat.judging.grade import Result

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Names that a line of a message shows.
_SHOWN = 4
# Arguments that the model names differently from ``args``.
_OTHER_NAMES = {"graph": "graph_name"}


def find_randomness(
    subject: ReferenceUnderTest, model: nn.Module, result: Result
) -> Diagnosis | None:
    """Roll out again with the same noise, and compare."""
    again = subject.outputs(model, torch.float64)
    if all(torch.equal(t, again[name]) for name, t in result.outputs.items()):
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
        found = _attribute(predictor, _OTHER_NAMES.get(name, name))
        if found is None or found == value:
            continue
        if type(found) is not type(value):
            continue
        parameter = inspect.signature(type(predictor)).parameters.get(name)
        is_default = parameter is not None and parameter.default == found
        default = " (its default)" if is_default else ""
        return Diagnosis(
            "hyper-parameter",
            f"the model was built with {name}={found!r}{default}, not with the "
            "value in the checkpoint",
            source=source_of(type(predictor)),
            details={"in the checkpoint": f"{name}={value!r}"},
        )
    return None


def _stored(subject: ReferenceUnderTest) -> dict[str, Any]:
    args = subject.hyper_parameters.get("args")
    if args is not None:
        return dict(vars(args))
    return dict(subject.predictor.arguments) if subject.predictor else {}


def _attribute(predictor: nn.Module, name: str) -> Any:
    value = vars(predictor).get(name)
    if value is not None or name != "mesh_aggr":
        return value
    # The model does not keep it, but the layers of its processor do.
    for path, module in predictor.named_modules():
        if path.startswith("processor.") and hasattr(module, "aggr"):
            return module.aggr
    return None


def weights_changed_by_loading(
    subject: ReferenceUnderTest, model: nn.Module, prefix: str = ""
) -> dict[str, str]:
    """Return facts on weights below a prefix that loading changed."""
    changed = differing_weights(subject, model)
    here = [name for name in changed if name.startswith(prefix)]
    more = ", ..." if len(here) > _SHOWN else ""
    return (
        {"changed by loading": ", ".join(here[:_SHOWN]) + more} if here else {}
    )


def differing_weights(
    subject: ReferenceUnderTest, model: nn.Module
) -> list[str]:
    """List the tensors that loading changed, compared bit for bit."""
    given = subject.migrated.state_dict
    return [
        name
        for name, tensor in model.state_dict().items()
        if name in given and not _equal(tensor, given[name])
    ]


def _equal(loaded: Tensor, given: Tensor) -> bool:
    # Cast as the model was: a run may keep float32 buffers that were added.
    given = given.to(loaded.device, loaded.dtype)
    return loaded.shape == given.shape and torch.equal(loaded, given)
