"""Real references in front of the installed neural-lam, in this process."""

import pytest
import torch
from loguru import logger


@pytest.fixture(scope="session", autouse=True)
def _quiet_neural_lam(current_adapter):
    # It tells of every graph that it loads.
    logger.disable("neural_lam")
    yield
    logger.enable("neural_lam")


@pytest.fixture(scope="session")
def recorded_run(reference_of, current_adapter, tmp_path_factory):
    """Return the saved run of a reference, read once."""
    from functools import cache

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    @cache
    def recorded(name):
        folder = tmp_path_factory.mktemp("recorded")
        return ReferenceUnderTest(
            reference_of(name), current_adapter, folder, torch.device("cpu")
        ).float64

    return recorded


@pytest.fixture
def subject_of(reference_of, recorded_run, current_adapter, tmp_path_factory):
    """Put a reference before the current code: ``subject_of(name, ...)``."""
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    def subject(name, **steps):
        put = ReferenceUnderTest(
            reference_of(name),
            current_adapter,
            tmp_path_factory.mktemp("subject"),
            torch.device("cpu"),
            **steps,
        )
        put.float64 = recorded_run(name)
        return put

    return subject
