"""Judge what nothing but an evaluation runs: steps of Lightning's Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pytest_nlam_compat.adapters.training_step import evaluate_once
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import Findings
from pytest_nlam_compat.numerics.torch_settings import (
    default_dtype,
    reproducible,
)
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def judge_evaluation(
    subject: ReferenceUnderTest, recorded: Version | None
) -> Findings:
    """Validate and test one batch, with the migrated and the raw file.

    The raw one may fail if it need not be loaded, `recorded` is as for
    `judge_native`; and under a release, which stays as it is.
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
        return _left_out("it is not loaded", error)
    # Nothing else of it can make a difference, but to outputs.
    if _arguments(raw) == arguments:
        return Findings()
    try:
        _evaluate(subject, "raw", raw)
    except CompatError as error:
        if recorded is not None and not subject.adapter.current.released:
            raise
        return _left_out("it can't be evaluated", error)
    return Findings()


def evaluate(subject: ReferenceUnderTest, module: nn.Module) -> None:
    """Validate and test one batch with Lightning's Trainer, in float64."""
    doing, dtype = "Evaluating with the current code's Trainer", torch.float64
    with code_under_test(doing), reproducible(), default_dtype(dtype):
        batch = apply_to_collection(
            subject.loaded_batch,
            Tensor,
            lambda t: t.to(dtype) if t.is_floating_point() else t,
        )
        with torch.random.fork_rng(devices=[]):
            evaluate_once(module, batch)


def _evaluate(
    subject: ReferenceUnderTest, file: str, module: nn.Module
) -> None:
    try:
        evaluate(subject, module)
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


def _left_out(why: str, error: CompatError) -> Findings:
    cause = error.facts.get("cause", error.what)
    return Findings(left_out={"raw file": f"{why}, {cause}"})
