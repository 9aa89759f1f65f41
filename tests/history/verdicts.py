"""All checks of the suite on one subject, and which of them fail."""

import torch

from pytest_nlam_compat.checks.judging import judge
from pytest_nlam_compat.checks.linting import lint_on_reference
from pytest_nlam_compat.checks.resuming import judge_resumed
from pytest_nlam_compat.checks.training import judge_batch, judge_loss
from pytest_nlam_compat.errors import CompatError


def outputs(subject):
    module = subject.migrated_model(torch.float64)
    judge(subject.reference, subject.outputs(module, torch.float64))


CHECKS = {
    "loads": lambda subject: subject.migrated_model(torch.float64),
    "outputs": outputs,
    "batch": lambda subject: judge_batch(subject.reference, subject.batch()),
    "loss": lambda subject: judge_loss(subject.reference, subject.loss()),
    "resumes": lambda subject: judge_resumed(subject.reference, subject),
    "migrations": lambda subject: lint_on_reference(subject, lambda: False),
}


def first_failure(subject):
    """Name the first check that fails, None where all pass."""
    for name, check in CHECKS.items():
        try:
            check(subject)
        except CompatError:
            return name
    return None
