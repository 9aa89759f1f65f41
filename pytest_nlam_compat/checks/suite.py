"""The ready-made checks, each run once for every selected reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from pytest_nlam_compat.checks.judging import (
    differences,
    facts,
    insist_on_outputs,
    judge,
)
from pytest_nlam_compat.checks.linting import (
    lint_on_reference,
    lint_registry,
    moved_on,
)
from pytest_nlam_compat.checks.resuming import judge_resumed
from pytest_nlam_compat.checks.selecting import selection_of
from pytest_nlam_compat.checks.training import judge_batch, judge_loss
from pytest_nlam_compat.checks.verdict import verdict
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.tolerances import FLOAT64
from pytest_nlam_compat.references.reference import Reference

if TYPE_CHECKING:
    from pytest_regressions.file_regression import FileRegressionFixture

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

__all__ = [
    "test_batch",
    "test_loads",
    "test_loss",
    "test_migrations",
    "test_native",
    "test_opens",
    "test_outputs",
    "test_outputs_float32",
    "test_registry",
    "test_resumes",
]

pytestmark = [
    pytest.mark.nlam_compat,
    # From 0.7 on neural-lam says of each older graph that it is one.
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
    # pytest says so of its strictest format and writes the numbers anyway.
    pytest.mark.filterwarnings("ignore:record_property is incompatible"),
]

Record = Callable[[str, object], None]


def test_opens(
    nlam_reference: Reference, nlam_subject: ReferenceUnderTest
) -> None:
    """The raw file is read without running its pickle, bit for bit."""
    with verdict():
        found = nlam_subject.raw.state_dict
        recorded = nlam_reference.state_dict
        wrong = sorted(
            name
            for name in found.keys() | recorded.keys()
            if name not in found
            or name not in recorded
            or not torch.equal(found[name], recorded[name])
        )
        if wrong:
            raise CompatError(
                f"{nlam_reference.id}: the checkpoint does not hold the "
                "weights that were recorded with it.",
                facts={"differ": ", ".join(wrong)},
                remedy="The reader of checkpoints is broken; please report "
                "it at https://github.com/mllam/pytest-nlam-compat/issues.",
            )


def test_native(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    request: pytest.FixtureRequest,
    record_property: Record,
) -> None:
    """The raw file through the current code's own loader alone.

    What comes of it is shown beside the migrated route. It has to be right
    for the newest release only: nothing has changed since, or a loader that
    mends it is still missing.
    """
    with verdict():
        try:
            module = nlam_subject.native_model(torch.float64)
            outputs = nlam_subject.outputs(module, torch.float64)
            insist_on_outputs(nlam_reference, outputs, torch.float64)
            worst = differences(nlam_reference, outputs)[0]
        except CompatError as error:
            record_property("nlam_native", "fails")
            record_property("nlam_native_cause", str(error))
            problem = error
        else:
            record_property("nlam_native_difference", worst.relative)
            if worst.share <= 1:
                record_property("nlam_native", "equal")
                return
            record_property("nlam_native", "differs")
            problem = CompatError(
                f"{nlam_reference.id}: it loads by the current code's own "
                "loader, and gives other numbers.",
                facts=facts(worst, FLOAT64),
                remedy="Mend it in neural-lam's own loader "
                "(on_load_checkpoint), or undo the change.",
            )
        newest = nlam_reference.release == selection_of(request.config).newest
        if newest and not nlam_subject.steps:
            raise problem


def test_loads(
    nlam_reference: Reference, nlam_subject: ReferenceUnderTest
) -> None:
    """The migrated checkpoint loads strictly into the current model."""
    with verdict():
        nlam_subject.migrated_model(torch.float64)


def test_outputs(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    record_property: Record,
) -> None:
    """A float64 rollout of the migrated run equals the golden."""
    _compare(
        nlam_reference,
        nlam_subject,
        torch.float64,
        file_regression,
        tmp_path,
        record_property,
    )


def test_outputs_float32(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    record_property: Record,
) -> None:
    """A float32 rollout does, within the error of the golden itself.

    It sees what float64 can't: a layer in half precision, an autocast.
    """
    _compare(
        nlam_reference,
        nlam_subject,
        torch.float32,
        file_regression,
        tmp_path,
        record_property,
    )


def _compare(
    reference: Reference,
    subject: ReferenceUnderTest,
    dtype: torch.dtype,
    file_regression: FileRegressionFixture,
    tmp_path: Path,
    record_property: Record,
) -> None:
    """Leave golden and obtained beside each other, and judge."""
    __tracebackhide__ = True
    with verdict():
        outputs = subject.outputs(subject.migrated_model(dtype), dtype)
        insist_on_outputs(reference, outputs, dtype)
        precision = "golden64" if dtype is torch.float64 else "golden32"
        golden = tmp_path / "golden.safetensors"
        save_file(
            {name: reference.group(precision)[name] for name in outputs},
            golden,
        )

        def judged(obtained: Path, _: Path) -> None:
            worst = judge(reference, load_file(obtained))
            record_property("nlam_share", worst.share)
            record_property("nlam_difference", worst.relative)

        try:
            file_regression.check(
                _serialised(outputs),
                binary=True,
                extension=".safetensors",
                fullpath=golden,
                check_fn=judged,
            )
        except CompatError as error:
            error.facts["left in"] = str(tmp_path)
            raise


def _serialised(outputs: Mapping[str, torch.Tensor]) -> bytes:
    # Cloned, for safetensors refuses what shares its memory.
    return save(
        {name: t.cpu().contiguous().clone() for name, t in outputs.items()}
    )


def test_batch(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    record_property: Record,
) -> None:
    """Dataset and transfer hooks make the same batch of the raw series."""
    with verdict():
        share = judge_batch(nlam_reference, nlam_subject.batch())
        record_property("nlam_share", share)


def test_loss(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    record_property: Record,
) -> None:
    """The training loss on the recorded batch is the recorded one."""
    with verdict():
        share = judge_loss(nlam_reference, nlam_subject.loss())
        record_property("nlam_share", share)


def test_resumes(
    nlam_reference: Reference,
    nlam_subject: ReferenceUnderTest,
    record_property: Record,
) -> None:
    """Training goes on as it did: each moment is its parameter's own.

    One AdamW step of the migrated optimizer on the recorded batch.
    """
    with verdict():
        compared = judge_resumed(nlam_reference, nlam_subject)
        record_property("nlam_share", compared.share)
        for name, why in compared.left_out.items():
            record_property("nlam_left_out", f"{name}: {why}")


def test_registry(nlam_registry: str, request: pytest.FixtureRequest) -> None:
    """The steps of a registry have ids, reasons and an order."""
    with verdict():
        lint_registry(nlam_registry, selection_of(request.config))


def test_migrations(
    nlam_subject: ReferenceUnderTest,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each step on the way fits, and the last reaches the current layout."""
    with verdict():
        config = request.config
        lint_on_reference(
            nlam_subject,
            lambda: moved_on(
                config,
                selection_of(config),
                lambda: tmp_path_factory.mktemp("layout"),
            ),
        )
