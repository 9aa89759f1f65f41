"""Explain why one check of a reference failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from packaging.version import Version
from torch import nn

from pytest_nlam_compat.diagnosis.call_changes import explain_call
from pytest_nlam_compat.diagnosis.diagnosis import (
    OF_ONE_CHECK,
    Diagnosis,
    Kind,
)
from pytest_nlam_compat.diagnosis.load_failure import explain_load_failure
from pytest_nlam_compat.diagnosis.model_state import (
    find_changed_weights,
    find_lost_hyper_parameter,
    find_lost_learning_rate,
    find_randomness,
)
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.diagnosis.output_changes import explain_outputs
from pytest_nlam_compat.diagnosis.parameter_order import reorderings
from pytest_nlam_compat.diagnosis.tensor_changes import lower_precision
from pytest_nlam_compat.diagnosis.trace_diff import (
    compare_traces,
    owner,
    trace_step,
)
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.batch_and_loss import judge_batch
from pytest_nlam_compat.judging.grade import Result, dtype_name, grade
from pytest_nlam_compat.judging.native_route import loads_migrated, try_native
from pytest_nlam_compat.judging.saved_again import judge_saving
from pytest_nlam_compat.under_test.source_lines import source_of

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Causes that the outputs of a reference without a trace show.
_CERTAIN = ("boundary", "rollout", "std", "weights")

Newer = Callable[[], Diagnosis | None]
"""Explains the same failure of a newer reference, if there is one."""


def explain(
    subject: ReferenceUnderTest, check: str, newer: Newer | None = None
) -> Diagnosis:
    """Explain why a check of a reference failed.

    Parameters
    ----------
    subject : ReferenceUnderTest
    check : str
        Name of the check, without ``test_``.
    newer : callable, optional
        Called if the outputs differ and the reference holds no trace, as those
        before 0.4.0: the cause is then the one that a newer reference shows.
    """
    found = _explain(subject.in_full(), check, newer)
    name = subject.reference.id
    return found if found.reference else replace(found, reference=name)


def _explain(
    subject: ReferenceUnderTest, check: str, newer: Newer | None
) -> Diagnosis:
    try:
        model = subject.migrated_model(torch.float64)
    except CompatError as error:
        return _does_not_load(subject, error)
    try:
        result = grade(subject, torch.float64)
    except CompatError as error:
        return _raises(subject, error)
    if not result.passed:
        return find_randomness(subject, model, result) or diagnose(
            subject, result, newer
        )
    if check == "outputs_float32" or (
        check == "loss" and not _passes_in_float32(subject)
    ):
        try:
            return _in_float32(subject)
        except CompatError as error:
            return _raises(subject, error, "error in float32")
    if check == "native":
        return _loader(subject)
    if check == "saves":
        return _saving(subject)
    if check == "resumes":
        moves = reorderings(subject.migrated, model)
        if moves:
            return Diagnosis(
                "order",
                "parameters are registered in another order",
                details={"fixed by": ", ".join(map(str, moves))},
            )
        lost = find_lost_learning_rate(subject, model)
        if lost is not None:
            return lost
    if check == "batch":
        return _batch(subject)
    if check == "loss":
        try:
            subject.loss(torch.float64)
        except CompatError as error:
            return _raises(subject, error)
        return Diagnosis("loss", "the same outputs give a different loss")
    return Diagnosis("none", "the outputs of the model are right")


def diagnose(
    subject: ReferenceUnderTest, result: Result, newer: Newer | None = None
) -> Diagnosis:
    """Find where the current code first computes something else.

    `result` is that of its migrated model in float64, which has not passed.
    """
    model = subject.migrated_model(torch.float64)
    found = find_lost_hyper_parameter(subject, model)
    if subject.reference.trace.calls:
        found = _by_trace(subject, model, result, found)
    elif found is None:
        found = _without_trace(subject, model, result, newer)
    if found.end is not None:
        return found
    return replace(found, end=result.worst.relative)


def _by_trace(
    subject: ReferenceUnderTest,
    model: nn.Module,
    result: Result,
    found: Diagnosis | None,
) -> Diagnosis:
    diff = compare_traces(subject, model)
    pair = diff.first()
    if found is None and pair is not None:
        found = explain_call(diff, pair)
    found = found or explain_outputs(subject, model, result)
    depth = 1.0 if pair is None else pair.then / len(diff.then.calls)
    return replace(found, depth=depth)


def _without_trace(
    subject: ReferenceUnderTest,
    model: nn.Module,
    result: Result,
    newer: Newer | None,
) -> Diagnosis:
    """Name the cause that a newer reference shows, or what is certain."""
    shown = newer() if newer is not None else None
    note = f"{subject.reference.id} holds no trace"
    if shown is not None:
        if shown.kind not in OF_ONE_CHECK:
            details = {"shown by": f"{shown.reference}; {note}"}
            return replace(shown, details=shown.details | details)
        note = f"{note}, and {shown.reference} gives the right outputs"
    found = find_changed_weights(subject, model)
    found = found or explain_outputs(subject, model, result)
    # That the submodules agree is not known: most causes are only a guess.
    if found.kind not in _CERTAIN:
        found = Diagnosis(
            "unknown",
            "the outputs differ, and references before 0.4.0 hold no trace "
            "that shows where",
        )
    applied = ", ".join(step.id for step in subject.steps)
    details = {"trace": note, "migrations applied": applied}
    return replace(found, details=found.details | details)


def _does_not_load(
    subject: ReferenceUnderTest, error: CompatError
) -> Diagnosis:
    """Explain tensors that do not fit by what happened to them."""
    try:
        wanted = subject.layout()
    except CompatError:
        return _raises(subject, error, "building")
    return explain_load_failure(subject, wanted) or _raises(subject, error)


def _passes_in_float32(subject: ReferenceUnderTest) -> bool:
    try:
        return grade(subject, torch.float32).passed
    except CompatError:
        return False


def _loader(subject: ReferenceUnderTest) -> Diagnosis:
    """Say what the current code's own loader has lost.

    The outputs of the migrated route are right. If the loader loads the
    migrated run as a file, it is the conversion of older files that is lost.
    """
    result = try_native(subject)
    if result.problem is None:
        return Diagnosis("none", "the own loader gives the right outputs")
    facts = result.problem.facts
    source = str(facts.get("raised in", ""))
    silent = result.outcome == "differs"
    known = subject.registry.known
    older = [Version(step.since) for step in subject.steps if step in known]
    if older and loads_migrated(subject):
        cause = (
            "neural-lam's own loader no longer converts checkpoints before "
            f"{max(older)}"
        )
        if silent:
            cause += ": it loads them with other outputs and without an error"
    elif silent:
        cause = "neural-lam's own loader gives other outputs, without an error"
    else:
        # Names of tensors, which torch quotes, differ between models.
        kind = str(facts.get("cause", result.problem.what)).partition('"')[0]
        cause = f"neural-lam's own loader fails: {kind.rstrip(' :')}"
    return Diagnosis("loader", cause, source=source)


def _batch(subject: ReferenceUnderTest) -> Diagnosis:
    cause = "the same series gives a different batch"
    try:
        judge_batch(subject)
    except CompatError as error:
        cause = str(error.facts.get("cause", cause))
    return Diagnosis("batch", cause)


def _saving(subject: ReferenceUnderTest) -> Diagnosis:
    try:
        judge_saving(subject)
    except CompatError as error:
        return _raises(subject, error, "saving")
    return Diagnosis("none", "a new checkpoint is loaded as it was saved")


def by_proved_steps(
    subject: ReferenceUnderTest, found: Diagnosis, steps: Operations
) -> Diagnosis:
    """Correct a cause that was guessed from names by the steps that fix it."""
    if found.kind != "loading":
        return found
    proved = explain_load_failure(subject, subject.layout(), steps)
    if proved is None:
        return found
    return replace(found, cause=proved.cause, details=proved.details)


def with_next_cause(found: Diagnosis, following: Diagnosis) -> Diagnosis:
    """Add what differs once a run that did not load is made to load."""
    if found.kind != "loading":
        return found
    facts = {f"then, {label}": str(f) for label, f in following.facts().items()}
    cause = f"{found.cause}; then {following.cause}"
    return replace(found, cause=cause, details=found.details | facts)


def _raises(
    subject: ReferenceUnderTest, error: CompatError, kind: Kind = "error"
) -> Diagnosis:
    """Use the cause that an error names."""
    facts = error.facts
    cause = str(facts.get("cause", error.what))
    if "class" in facts:
        cause = f"the current code has no class {facts['class']}"
    place = str(facts.get("raised in", ""))
    # A line of a library does not tell one cause from another.
    known = place.startswith(str(subject.adapter.current.path))
    return Diagnosis(kind, cause, line=place if known else "", source=place)


def _in_float32(subject: ReferenceUnderTest) -> Diagnosis:
    """Find the first module that computes in less than float32."""
    model = subject.migrated_model(torch.float32)
    trace, tensors = trace_step(subject, model, torch.float32)
    for call, seen in zip(trace.calls, tensors, strict=True):
        received = [("receives", tensor) for tensor in seen.inputs]
        returned = [("returns", tensor) for tensor in seen.outputs]
        for verb, tensor in received + returned:
            lost = lower_precision(tensor.double())
            if tensor.dtype is torch.float32 and lost in ("", "float32"):
                continue
            name, cls = owner(subject, model, call.module)
            return Diagnosis(
                "precision in float32",
                f"in float32 a {call.kind} {verb} "
                f"{lost or dtype_name(tensor.dtype)}",
                module=call.module,
                cls=call.kind,
                source=source_of(cls),
                details={"part of": name},
            )
    return Diagnosis(
        "precision in float32",
        "in float32 more precision is lost than rounding explains; float64 is "
        "right",
    )
