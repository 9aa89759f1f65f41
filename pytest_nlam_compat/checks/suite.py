"""The ready-made checks, each run once for every selected reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save, save_file

from pytest_nlam_compat.checks.run_results import record_map, record_shares
from pytest_nlam_compat.checks.selection import selection_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.all_checks import CHECKS
from pytest_nlam_compat.judging.grade import Findings, grade
from pytest_nlam_compat.judging.migration_checks import (
    judge_migrations,
    judge_registry,
)
from pytest_nlam_compat.judging.native_route import judge_native, try_native
from pytest_nlam_compat.migrations.saved_run import loaded
from pytest_nlam_compat.numerics.tolerances import FLOAT64
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
]


def test_opens(
    nlam_reference: Reference, nlam_subject: ReferenceUnderTest
) -> None:
    """The raw file is read without running its pickle, bit for bit."""
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
            f"{nlam_reference.id}: the checkpoint does not hold the weights "
            "that were recorded with it.",
            facts={"differ": ", ".join(wrong)},
            remedy="The reader of checkpoints is broken; please report it at "
            "https://github.com/mllam/pytest-nlam-compat/issues.",
        )


@pytest.mark.nlam_compat(check="native")
def test_native(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """The raw file through the current code's own loader alone.

    The result is shown beside the migrated route. It has to be right where the
    newest release is right, unless the repository gives a reference up, or
    what its loader lacks are migrations registered with this plugin.
    """
    native = selection_of(request.config).native
    properties = request.node.user_properties
    result = try_native(nlam_subject)
    properties.append(("nlam_native", result.outcome))
    if result.graded is not None:
        record_map(request.node, result.graded)
        difference = result.graded.worst.relative
        properties.append(("nlam_native_difference", difference))
    if result.outcome == "fails":
        properties.append(("nlam_native_cause", str(result.problem)))
    reference = nlam_subject.reference
    if reason := native.reason(reference.id):
        properties.append(("nlam_given_up", reason))
    elif (
        result.problem is None
        and reference.id not in native.loads
        and not isinstance(reference, PinnedReference)
    ):
        properties.append(("nlam_native_gained", str(native.release)))
    recorded = native.recorded(reference.id)
    if missing := judge_native(nlam_subject, result, recorded):
        properties.append(("nlam_native_missing", ", ".join(missing)))


def test_loads(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """The migrated checkpoint loads strictly into the current model."""
    _run("loads", nlam_subject, request)


def test_outputs(
    nlam_subject: ReferenceUnderTest,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A float64 rollout of the migrated run equals the golden."""
    result = grade(nlam_subject, torch.float64)
    _keep_and_raise(result, file_regression, tmp_path, request.node)


def test_outputs_float32(
    nlam_subject: ReferenceUnderTest,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A float32 rollout equals it too, within the error of the golden.

    It sees what float64 can't: a layer in half precision, an autocast.
    """
    result = grade(nlam_subject, torch.float32)
    _keep_and_raise(result, file_regression, tmp_path, request.node)


def _keep_and_raise(
    result: Result,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    item: pytest.Item,
) -> None:
    """Keep golden and obtained outputs side by side; raise on failure."""
    record_map(item, result)
    record_shares(item, {result.tolerance.name: result.share})
    item.user_properties.append(("nlam_difference", result.worst.relative))
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
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """Dataset and transfer hooks make the same batch of the raw series."""
    _run("batch", nlam_subject, request)


@pytest.mark.nlam_compat(check="loss")
def test_loss(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """The training loss on the recorded batch is the recorded one."""
    _run("loss", nlam_subject, request)


@pytest.mark.nlam_compat(check="resumes")
def test_resumes(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """Training goes on as it did: each moment is its parameter's own.

    One AdamW step of the migrated optimizer on the recorded batch.
    """
    _run("resumes", nlam_subject, request)


def test_evaluates(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """Lightning's Trainer validates and tests with the current code.

    With the migrated file, and the raw one where it has to be loaded.
    """
    _run("evaluates", nlam_subject, request)


@pytest.mark.nlam_compat(check="saves")
def test_saves(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """What the current code saves, its own loader loads again.

    For the references of the newest release alone: the file is a new one.
    """
    _run("saves", nlam_subject, request)


def _run(
    name: str, subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """Run a check, and record what it finds."""
    native = selection_of(request.config).native
    recorded = native.recorded(subject.reference.id)
    found = CHECKS[name].judge(subject, recorded) or Findings()
    record_shares(request.node, found.shares)
    request.node.user_properties += [
        ("nlam_left_out", f"{what}: {why}")
        for what, why in found.left_out.items()
    ]


def test_registry(nlam_registry: str, request: pytest.FixtureRequest) -> None:
    """The migrations of a registry have ids, reasons and an order."""
    selection = selection_of(request.config)
    source = selection.setup.source
    judge_registry(nlam_registry, selection.migrations, source)


def test_migrations(
    nlam_subject: ReferenceUnderTest, request: pytest.FixtureRequest
) -> None:
    """Each migration fits, and the last one reaches the current layout."""
    selection = selection_of(request.config)
    judge_migrations(nlam_subject, lambda: selection.layout_changed)
