"""The ready-made checks, each run once for every selected reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save, save_file

from pytest_nlam_compat.checks.failures import fail_without_traceback
from pytest_nlam_compat.checks.recorded_results import (
    Record,
    record_map,
    record_shares,
    recorded_failure,
)
from pytest_nlam_compat.checks.selection import selection_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.batch_and_loss import judge_batch, judge_loss
from pytest_nlam_compat.judging.evaluation import judge_evaluation
from pytest_nlam_compat.judging.grade import grade
from pytest_nlam_compat.judging.migration_checks import (
    judge_migrations,
    judge_registry,
)
from pytest_nlam_compat.judging.native_route import judge_native, try_native
from pytest_nlam_compat.judging.optimizer_step import judge_resumed
from pytest_nlam_compat.judging.saved_again import judge_saving
from pytest_nlam_compat.migrations.saved_run import loaded
from pytest_nlam_compat.numerics.tolerances import BATCH, FLOAT64
from pytest_nlam_compat.references.pins import PinnedReference
from pytest_nlam_compat.references.reference import Reference

if TYPE_CHECKING:
    from pytest_regressions.file_regression import FileRegressionFixture

    from pytest_nlam_compat.judging.grade import Result
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

__all__ = [
    "test_batch",
    "test_evaluates",
    "test_loads",
    "test_loss",
    "test_migrations",
    "test_native",
    "test_opens",
    "test_outputs",
    "test_outputs_float32",
    "test_registry",
    "test_resumes",
    "test_saves",
]

pytestmark = [
    pytest.mark.nlam_compat,
    # From 0.7 on neural-lam says of each older graph that it is one.
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
    # pytest says so of its strictest format and writes the numbers anyway.
    pytest.mark.filterwarnings("ignore:record_property is incompatible"),
]


def test_opens(
    nlam_reference: Reference, nlam_subject: ReferenceUnderTest
) -> None:
    """The raw file is read without running its pickle, bit for bit."""
    with fail_without_traceback():
        found = nlam_subject.raw.state_dict
        recorded = nlam_reference.state_dict
        wrong = sorted(
            name
            for name in found.keys() | recorded.keys()
            if name not in found
            or name not in recorded
            or not torch.equal(loaded(found[name]), recorded[name])
        )
        if wrong:
            raise CompatError(
                f"{nlam_reference.id}: the checkpoint does not hold the "
                "weights that were recorded with it.",
                facts={"differ": ", ".join(wrong)},
                remedy="The reader of checkpoints is broken; please report "
                "it at https://github.com/mllam/pytest-nlam-compat/issues.",
            )


@pytest.mark.nlam_compat(of="all")
def test_native(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    request: pytest.FixtureRequest,
    record_property: Record,
) -> None:
    """The raw file through the current code's own loader alone.

    The result is shown beside the migrated route. It has to be right where the
    newest release is right, unless the repository gives a reference up, or
    what its loader lacks are migrations registered with this plugin.
    """
    with fail_without_traceback():
        native = selection_of(request.config).native
        result = try_native(nlam_subject)
        record_property("nlam_native", result.outcome)
        record_map(request.node, result.graded)
        if result.difference is not None:
            record_property("nlam_native_difference", result.difference)
        if result.outcome == "fails":
            record_property("nlam_native_cause", str(result.problem))
        reference = nlam_reference.id
        if reason := native.reason(reference):
            record_property("nlam_given_up", reason)
        elif (
            result.problem is None
            and reference not in native.loads
            and not isinstance(nlam_reference, PinnedReference)
        ):
            record_property("nlam_native_gained", str(native.release))
        missing = judge_native(nlam_subject, result, native.recorded(reference))
        if missing:
            record_property("nlam_native_missing", ", ".join(missing))


def test_loads(
    nlam_reference: Reference, nlam_subject: ReferenceUnderTest
) -> None:
    """The migrated checkpoint loads strictly into the current model."""
    with fail_without_traceback():
        nlam_subject.migrated_model(torch.float64)


def test_outputs(
    nlam_subject: ReferenceUnderTest,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    record_property: Record,
    request: pytest.FixtureRequest,
) -> None:
    """A float64 rollout of the migrated run equals the golden."""
    with fail_without_traceback():
        result = grade(nlam_subject, torch.float64)
        record_map(request.node, result)
        _keep_and_raise(result, file_regression, tmp_path, record_property)


def test_outputs_float32(
    nlam_subject: ReferenceUnderTest,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    record_property: Record,
    request: pytest.FixtureRequest,
) -> None:
    """A float32 rollout equals it too, within the error of the golden.

    It sees what float64 can't: a layer in half precision, an autocast.
    """
    with fail_without_traceback():
        result = grade(nlam_subject, torch.float32)
        record_map(request.node, result)
        _keep_and_raise(result, file_regression, tmp_path, record_property)


def _keep_and_raise(
    result: Result,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    record_property: Record,
) -> None:
    """Keep golden and obtained outputs side by side; raise on failure."""
    record_shares(record_property, {result.tolerance.name: result.share})
    record_property("nlam_difference", result.worst.relative)
    double = result.tolerance is FLOAT64
    golden = result.reference.group("golden64" if double else "golden32")
    kept = tmp_path / "golden.safetensors"
    save_file({name: golden[name] for name in result.outputs}, kept)

    def check(obtained: Path, expected: Path) -> None:
        result.raise_on_failure()

    try:
        file_regression.check(
            _serialized(result.outputs),
            binary=True,
            extension=".safetensors",
            fullpath=kept,
            check_fn=check,
        )
    except CompatError as error:
        error.facts["outputs kept in"] = str(tmp_path)
        raise


def _serialized(outputs: Mapping[str, torch.Tensor]) -> bytes:
    # Cloned: safetensors refuses tensors that share memory.
    return save(
        {name: t.cpu().contiguous().clone() for name, t in outputs.items()}
    )


def test_batch(
    nlam_subject: ReferenceUnderTest, record_property: Record
) -> None:
    """Dataset and transfer hooks make the same batch of the raw series."""
    with fail_without_traceback(), recorded_failure(record_property):
        share = judge_batch(nlam_subject)
        record_shares(record_property, {BATCH.name: share})


@pytest.mark.nlam_compat(needs="loss")
def test_loss(
    nlam_subject: ReferenceUnderTest, record_property: Record
) -> None:
    """The training loss on the recorded batch is the recorded one."""
    with fail_without_traceback(), recorded_failure(record_property):
        record_shares(record_property, judge_loss(nlam_subject))


@pytest.mark.nlam_compat(needs="resume")
def test_resumes(
    nlam_subject: ReferenceUnderTest, record_property: Record
) -> None:
    """Training goes on as it did: each moment is its parameter's own.

    One AdamW step of the migrated optimizer on the recorded batch.
    """
    with fail_without_traceback(), recorded_failure(record_property):
        result = judge_resumed(nlam_subject)
        record_shares(record_property, result.shares)
        for name, why in result.left_out.items():
            record_property("nlam_left_out", f"{name}: {why}")


def test_evaluates(
    nlam_subject: ReferenceUnderTest,
    request: pytest.FixtureRequest,
    record_property: Record,
) -> None:
    """Lightning's Trainer validates and tests with the current code.

    With the migrated file, and the raw one where it has to be loaded.
    """
    with fail_without_traceback():
        native = selection_of(request.config).native
        left_out = judge_evaluation(
            nlam_subject, native.recorded(nlam_subject.reference.id)
        )
        for name, why in left_out.items():
            record_property("nlam_left_out", f"{name}: {why}")


@pytest.mark.nlam_compat(of="newest", needs="resume")
def test_saves(nlam_subject: ReferenceUnderTest) -> None:
    """What the current code saves, its own loader loads again.

    For the references of the newest release alone: the file is a new one.
    """
    with fail_without_traceback():
        judge_saving(nlam_subject)


def test_registry(nlam_registry: str, request: pytest.FixtureRequest) -> None:
    """The migrations of a registry have ids, reasons and an order."""
    with fail_without_traceback():
        selection = selection_of(request.config)
        judge_registry(
            nlam_registry, selection.migrations, selection.setup.source
        )


def test_migrations(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """Each migration fits, and the last one reaches the current layout."""
    with fail_without_traceback():
        selection = selection_of(request.config)
        judge_migrations(nlam_subject, lambda: selection.layout_changed)
