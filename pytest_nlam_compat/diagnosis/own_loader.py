"""Explain what neural-lam's own loader does to a file that migrations load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.judging.native_route import loads_migrated, try_native

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def explain_loader(subject: ReferenceUnderTest) -> Diagnosis:
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
