"""What differs after the last submodule, or from the second step on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.precision import like_rounding
from pytest_nlam_compat.diagnosis.source_location import defining, source_of
from pytest_nlam_compat.judging.grade import grade_outputs
from pytest_nlam_compat.numerics.tolerances import FLOAT64, allowed

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_INDICES = ("clamp_lower_upper_idx", "clamp_lower_idx", "clamp_upper_idx")
# Of the spread: how well a line has to fit what the output is made of.
_FIT = 1e-8


def after_the_last(
    subject: ReferenceUnderTest, module: nn.Module, step: dict[str, Tensor]
) -> Finding | None:
    """Find what became of the output of the last submodule.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
    step : dict of str to Tensor
        Outputs of one step of the current code.

    Returns
    -------
    Finding or None
        None where every output is the recorded one.
    """
    golden = subject.reference.group("golden64")
    predictor = subject.adapter.step_predictor(module)
    source = source_of(defining(type(predictor)))
    now = step["prediction"][:, 0].cpu()
    then = golden["prediction"][:, 0]
    limit = allowed(FLOAT64, golden["prediction"])
    wrong = (now - then).abs() > limit
    if bool(wrong.any()):
        return _of_the_prediction(subject, module, now, then, wrong)
    outputs = subject.outputs(module, torch.float64)
    result = grade_outputs(subject.reference, outputs)
    wrong_names = [one.output for one in result.differences if one.share > 1]
    if not wrong_names:
        return None
    if wrong_names == ["pred_std"]:
        text = "the predicted standard deviation is made otherwise"
        return Finding("std", text, source=source)
    if "prediction" in wrong_names:
        return Finding(
            "rollout",
            "the first step is right, later ones are not: how one step is "
            "fed to the next has changed",
            source=_forecaster(module, predictor),
        )
    text = f"{', '.join(wrong_names)} differ, the prediction does not"
    return Finding("output", text, source=source)


def _forecaster(module: nn.Module, predictor: nn.Module) -> str:
    """Where steps follow one another: whatever holds the predictor."""
    holders = [
        holder
        for holder in module.modules()
        if any(child is predictor for child in holder.children())
    ]
    if holders:
        return source_of(defining(type(holders[0])))
    return source_of(defining(type(predictor), "unroll_prediction"))


def _of_the_prediction(
    subject: ReferenceUnderTest,
    module: nn.Module,
    now: Tensor,
    then: Tensor,
    wrong: Tensor,
) -> Finding:
    reference = subject.reference
    predictor = subject.adapter.step_predictor(module)
    source = source_of(defining(type(predictor)))
    if like_rounding(now, then):
        text = "the prediction is rounded to float32 after the last submodule"
        return Finding("precision", text, source=source)
    boundary = torch.from_numpy(reference.dataset.arrays["boundary_mask"]) > 0
    if bool(wrong[:, boundary].any()):
        return Finding(
            "boundary",
            "boundary nodes don't get the true state as they did",
            source=_forecaster(module, predictor),
        )
    changed = wrong.flatten(0, -2).any(dim=0)
    variables = [
        name
        for name, is_changed in zip(
            reference.dataset.names["state"], changed.tolist(), strict=True
        )
        if is_changed
    ]
    details = {"variables": ", ".join(variables)}
    clamped = _clamped(subject)
    if clamped and set(changed.nonzero().flatten().tolist()) <= clamped:
        return Finding(
            "clamping",
            "only variables that are clamped differ: how they are clamped has "
            "changed",
            source=source_of(
                defining(type(predictor), "get_clamped_new_state")
            ),
            details=details,
        )
    previous = reference.batch()[0][:, 1]
    lines = _lines(
        (now - previous)[:, ~boundary], (then - previous)[:, ~boundary]
    )
    if lines:
        details["change of the state"] = lines
        text = "the output of the last submodule is rescaled otherwise"
        return Finding("rescaling", text, source=source, details=details)
    text = "something else is made of the output of the last submodule"
    return Finding("output", text, source=source, details=details)


def _clamped(subject: ReferenceUnderTest) -> set[int]:
    """Variables that are clamped, by the checkpoint's own buffers."""
    return {
        int(index)
        for name, tensor in subject.migrated.state_dict.items()
        if name.rpartition(".")[2] in _INDICES
        for index in tensor.flatten()
    }


def _lines(now: Tensor, then: Tensor) -> str:
    """Say how each variable is scaled, if a line through all nodes fits."""
    texts = []
    for variable in range(now.shape[-1]):
        x, y = then[..., variable].flatten(), now[..., variable].flatten()
        spread = x.std()
        if float(spread) == 0:
            return ""
        factor = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0)
        offset = y.mean() - factor * x.mean()
        if float((y - factor * x - offset).abs().max()) > _FIT * float(y.std()):
            return ""
        texts.append(f"{float(factor):.6g} x {float(offset):+.6g}")
    return "; ".join(texts)
