"""All checks of the suite on one subject, and which of them fail."""

import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.batch_and_loss import judge_batch, judge_loss
from pytest_nlam_compat.judging.evaluation import judge_evaluation
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.judging.migration_checks import judge_migrations
from pytest_nlam_compat.judging.optimizer_step import judge_resumed

CHECKS = {
    "loads": lambda subject: subject.migrated_model(torch.float64),
    "outputs": lambda subject: grade(subject, torch.float64).raise_on_failure(),
    "batch": judge_batch,
    "loss": judge_loss,
    "resumes": judge_resumed,
    "evaluates": lambda subject: judge_evaluation(subject, None),
    "migrations": lambda subject: judge_migrations(subject, lambda: False),
}


def first_failure(subject):
    """Name the first check that fails, None where all pass."""
    for name, check in CHECKS.items():
        try:
            check(subject)
        except CompatError:
            return name
    return None
