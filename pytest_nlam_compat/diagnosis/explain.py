"""Why a check failed, whichever it was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from pytest_nlam_compat.diagnosis.divergence import diagnose
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.matching import explain, match
from pytest_nlam_compat.diagnosis.observing import observe
from pytest_nlam_compat.diagnosis.ordering import reorderings
from pytest_nlam_compat.diagnosis.precision import lost_precision
from pytest_nlam_compat.diagnosis.source_location import owner, source_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.references.reference import kind_of

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_IN_TRAINING = {
    "batch": "another batch is made of the same series",
    "loss": "the loss is another function of the same outputs",
}

OF_A_CHECK = frozenset(
    {
        "batch",
        "error in float32",
        "loss",
        "none",
        "order",
        "precision in float32",
    }
)
"""Kinds of causes that explain one check, not all of a reference."""


def why(subject: ReferenceUnderTest, check: str) -> Finding:
    """Say why a check of a reference failed.

    Parameters
    ----------
    subject : ReferenceUnderTest
    check : str
        Name of the check, without ``test_``.

    Returns
    -------
    Finding
    """
    try:
        module = subject.migrated_model(torch.float64)
    except CompatError as error:
        return _does_not_load(subject, error)
    try:
        result = grade(subject, torch.float64)
    except CompatError as error:
        return _does_not_run(error)
    if not result.passed:
        return replace(diagnose(subject), end=result.worst.relative)
    if check == "outputs_float32":
        try:
            return _in_float32(subject)
        except CompatError as error:
            return _does_not_run(error, "error in float32")
    moves = reorderings(subject.migrated, module) if check == "resumes" else ()
    if moves:
        return Finding(
            "order",
            "parameters are registered in another order",
            details={"put into today's by": ", ".join(map(str, moves))},
        )
    text = _IN_TRAINING.get(check, "the outputs of the model are right")
    return Finding(check if check in _IN_TRAINING else "none", text)


def _does_not_load(subject: ReferenceUnderTest, error: CompatError) -> Finding:
    """Group what does not fit into what happened."""
    try:
        wanted = subject.layout()
    except CompatError:
        return _does_not_run(error, "building")
    given = {n: tuple(t.shape) for n, t in subject.migrated.state_dict.items()}
    changes = match(given, wanted)
    if not changes:
        return _does_not_run(error)
    kinds = ", ".join(dict.fromkeys(change.kind for change in changes))
    first = changes[0].text.partition(" (")[0]
    return Finding("loading", f"{kinds}: {first}", details={**explain(changes)})


def _does_not_run(error: CompatError, kind: str = "error") -> Finding:
    """Take the cause that the error names."""
    cause = str(error.facts.get("cause", error.what))
    place = str(error.facts.get("raised in", ""))
    return Finding(kind, cause, source=place)


def _in_float32(subject: ReferenceUnderTest) -> Finding:
    """Find the first module that computes in less than float32."""
    module = subject.migrated_model(torch.float32)
    observation = observe(subject, module, torch.float32)
    predictor = subject.adapter.step_predictor(module)
    package = subject.adapter.current.path.name
    for call, tensors in zip(
        observation.trace.calls, observation.tensors, strict=True
    ):
        for what, found in (
            ("is fed", tensors.inputs),
            ("puts out", tensors.outputs),
        ):
            for tensor in found:
                lost = lost_precision([tensor.double()], [], 0.0)
                if tensor.dtype is torch.float32 and lost in ("", "float32"):
                    continue
                lost = lost or str(tensor.dtype).removeprefix("torch.")
                name, cls = owner(predictor, call.module, package)
                return Finding(
                    "precision in float32",
                    f"in float32 a {kind_of(call.kind)} {what} {lost}",
                    module=call.module,
                    cls=call.kind,
                    source=source_of(cls),
                    details={"part of": name or "the step predictor"},
                )
    return Finding(
        "precision in float32",
        "in float32 more is lost than rounding explains; float64 is right",
    )
