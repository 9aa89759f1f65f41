"""Fixtures for the checks and for people's own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_nlam_compat.adapters.batches import Batch
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@pytest.fixture(scope="session")
def nlam_reference(request: pytest.FixtureRequest) -> Reference:
    """One frozen case of one neural-lam release, for each that is selected.

    A test that uses it runs once for each reference that the options
    ``--nlam-compat-release`` and ``--nlam-compat-case`` select::

        def test_has_an_optimizer(nlam_reference):
            assert nlam_reference.description["optimizer_steps"] == 2

    ``batch()`` returns its inputs, ``group("golden64")`` what the release
    computed from them, ``state_dict`` its weights.
    """
    reference: Reference = request.param
    return reference


@pytest.fixture(scope="session")
def nlam_subject(
    request: pytest.FixtureRequest,
    nlam_reference: Reference,
    tmp_path_factory: pytest.TempPathFactory,
) -> ReferenceUnderTest:
    """Return the reference in front of the current code.

    Its ``native_model(dtype)`` and ``migrated_model(dtype)`` are the models
    that the current code makes from it. All tests share them: don't change
    them.
    """
    from pytest_nlam_compat.checks.selection import selection_of

    folder = tmp_path_factory.mktemp(nlam_reference.id)
    return selection_of(request.config).subject(nlam_reference, folder)


@pytest.fixture
def nlam_batch(nlam_subject: ReferenceUnderTest) -> Batch:
    """Return the recorded batch, in float64, on the device of `nlam_model`.

    ``init_states`` (B, 2, N, d), ``target_states`` (B, T, N, d) and
    ``forcing`` (B, T, N, f * window), standardized; ``target_times`` (B, T).
    """
    import torch

    return nlam_subject.recorded_batch(torch.float64)


@pytest.fixture
def nlam_model(nlam_subject: ReferenceUnderTest) -> nn.Module:
    """Return the model of the current code with the reference's weights.

    The migrated checkpoint, loaded strictly, in float64, in which outputs are
    judged. Its forward pass draws the noise of the golden, if there is any.
    Each test has its own::

        def test_rollout(nlam_batch, nlam_model, nlam_check):
            init_states, target_states, forcing, _ = nlam_batch
            prediction, _ = nlam_model.forecaster(
                init_states, forcing, target_states
            )
            nlam_check(prediction=prediction)
    """
    import torch

    from pytest_nlam_compat.numerics.noise import NoiseInForward

    model = nlam_subject.new_migrated_model(torch.float64)
    model = model.to(nlam_subject.device)
    if noise := nlam_subject.reference.noise("rollout"):
        NoiseInForward(model, noise)
    return model


@pytest.fixture
def nlam_check(nlam_subject: ReferenceUnderTest) -> Callable[..., None]:
    """Compare named tensors with the golden of the reference.

    Call it with ``prediction=``, ``pred_std=`` or whatever else
    ``nlam_reference.group("golden64")`` has. float64 tensors are judged by
    the row "float64" of the tolerances, others by the rows "float32". See
    `nlam_model` for an example.
    """

    def check(**outputs: Tensor) -> None:
        from pytest_nlam_compat.judging.grade import (
            grade_outputs,
            recorded_rounding,
        )

        grade_outputs(
            nlam_subject.reference,
            outputs,
            lambda: recorded_rounding(nlam_subject),
        ).raise_on_failure()

    return check
