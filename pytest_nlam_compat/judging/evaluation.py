"""Judge what nothing but an evaluation runs: steps of Lightning's Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def judge_evaluation(
    subject: ReferenceUnderTest, recorded: Version | None
) -> dict[str, str]:
    """Validate and test one batch, with the migrated and the raw file.

    Parameters
    ----------
    subject : ReferenceUnderTest
    recorded : Version or None
        As for `judge_native`.

    Returns
    -------
    dict of str to str
        What was left out, and why.

    Raises
    ------
    CompatError
        The current code can't evaluate the migrated file; or the raw one,
        if it has to load that and is no release, which stays as it is.
    """
    double = torch.float64
    migrated = subject.migrated_model(double)
    _evaluate(subject, "migrated", migrated)
    arguments = _arguments(migrated)
    # One at a time: they may be large.
    del migrated
    try:
        raw = subject.native_model(double)
    except CompatError as error:
        return {"raw file": f"it is not loaded, {_cause(error)}"}
    # Nothing else of it can make a difference, but to outputs.
    if _arguments(raw) == arguments:
        return {}
    try:
        _evaluate(subject, "raw", raw)
    except CompatError as error:
        if recorded is not None and not subject.adapter.current.released:
            raise
        return {"raw file": f"it can't be evaluated, {_cause(error)}"}
    return {}


def _evaluate(
    subject: ReferenceUnderTest, file: str, module: torch.nn.Module
) -> None:
    try:
        subject.evaluate(module, torch.float64)
    except CompatError as error:
        raise CompatError(
            f"{subject.reference.id}: Lightning's Trainer can't evaluate the "
            f"{file} file.",
            facts=error.facts,
            remedy="`--eval` runs it. Read what older files lack with a "
            "default, or add a migration: SetHyperParameter.",
        ) from error


def _arguments(module: Any) -> dict[str, str]:
    """Return what an evaluation reads; the configuration builds models."""
    return {n: repr(v) for n, v in module.hparams.items() if n != "config"}


def _cause(error: CompatError) -> str:
    return str(error.facts.get("cause", error.what))
