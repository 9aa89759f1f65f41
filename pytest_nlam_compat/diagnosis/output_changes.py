"""What differs after the last submodule, or from the second step on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.clamping import clamps, explain_clamping
from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.tensor_changes import like_rounding
from pytest_nlam_compat.judging.grade import Result
from pytest_nlam_compat.numerics.tolerances import FLOAT64, allowed
from pytest_nlam_compat.under_test.source_lines import source_of

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Of the spread: how well a line has to fit the outputs.
_FIT = 1e-8


def explain_outputs(
    subject: ReferenceUnderTest, model: nn.Module, result: Result
) -> Diagnosis:
    """Explain outputs that differ although all submodules agree."""
    golden = subject.reference.group("golden64")["prediction"]
    now, then = result.outputs["prediction"][:, 0].cpu(), golden[:, 0]
    # NaN is wrong, too.
    wrong = ~((now - then).abs() <= allowed(FLOAT64, golden))
    if bool(wrong.any()):
        return _first_step(subject, model, now, then, wrong)
    predictor = subject.adapter.step_predictor(model)
    names = [one.output for one in result.differences if one.share > 1]
    if "prediction" in names:
        return Diagnosis(
            "rollout",
            "the first step is right and later ones are not: the rollout "
            "passes other inputs from step to step",
            source=_rollout_source(model, predictor),
        )
    source = source_of(type(predictor))
    if names == ["pred_std"]:
        text = "the predicted standard deviation is computed differently"
        return Diagnosis("std", text, source=source)
    text = f"{', '.join(names)} differ, the prediction does not"
    return Diagnosis("output", text, source=source)


def _rollout_source(model: nn.Module, predictor: nn.Module) -> str:
    """Return where steps follow one another: in what holds the predictor."""
    for holder in model.modules():
        if any(child is predictor for child in holder.children()):
            return source_of(type(holder))
    return source_of(type(predictor), "unroll_prediction")


def _first_step(
    subject: ReferenceUnderTest,
    model: nn.Module,
    now: Tensor,
    then: Tensor,
    wrong: Tensor,
) -> Diagnosis:
    """Explain the prediction of the first step, (B, N, d) each."""
    reference = subject.reference
    predictor = subject.adapter.step_predictor(model)
    source = source_of(type(predictor))
    boundary = torch.from_numpy(reference.dataset.arrays["boundary_mask"]) > 0
    if like_rounding(now, then):
        text = "the prediction is rounded to float32 after the last submodule"
        return Diagnosis("precision", text, source=source)
    if bool(wrong[:, boundary].any()):
        return Diagnosis(
            "boundary",
            "boundary nodes are no longer set to the true state",
            source=_rollout_source(model, predictor),
        )
    changed = wrong.flatten(0, -2).any(dim=0).nonzero().flatten().tolist()
    names = reference.dataset.names["state"]
    details = {"variables": ", ".join(names[index] for index in changed)}
    previous = reference.batch()[0][:, 1]
    clamped = clamps(subject.migrated.state_dict)
    if clamped and clamped.keys() >= set(changed):
        texts = {
            explain_clamping(
                clamped[index],
                *(x[:, ~boundary, index] for x in (previous, then, now)),
            )
            for index in changed
        }
        return Diagnosis(
            "clamping",
            "; ".join(sorted(texts)),
            source=source_of(type(predictor), "get_clamped_new_state"),
            details=details,
        )
    lines = _linear_fits(
        (now - previous)[:, ~boundary], (then - previous)[:, ~boundary]
    )
    if lines:
        details["change of the state"] = lines
        text = "the output of the last submodule is rescaled differently"
        return Diagnosis("rescaling", text, source=source, details=details)
    text = "the output of the last submodule is processed differently"
    return Diagnosis("output", text, source=source, details=details)


def _linear_fits(now: Tensor, then: Tensor) -> str:
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
