"""Judge the native route: the raw file through the current code's loader."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.judging.grade import Result, grade
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.under_test.reference_under_test import (
    ReferenceUnderTest,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.adapters.adapter import Adapter
    from pytest_nlam_compat.references.release_archive import ReleaseArchive

_FLOAT64 = torch.float64


@dataclass(frozen=True)
class NativeResult:
    """What came of the native route of a reference.

    Attributes
    ----------
    outcome : str
        ``equal``, ``differs`` (other outputs and no error) or ``fails``.
    problem : CompatError or None
        What is wrong.
    graded : Result or None
        The outputs and their differences; None if it fails.
    """

    outcome: Literal["equal", "differs", "fails"]
    problem: CompatError | None = None
    graded: Result | None = None


def try_native(
    subject: ReferenceUnderTest, path: Path | None = None
) -> NativeResult:
    """Load a file with the current code's own loader, and compare outputs.

    `path` is its migrated run, written as a file; by default, its raw file.
    """
    try:
        if path is None:
            model = subject.native_model(_FLOAT64)
        else:
            model = subject.load_natively(path, _FLOAT64, "migrated")
        result = grade(subject, _FLOAT64, model)
    except CompatError as error:
        return NativeResult("fails", problem=error)
    if result.passed:
        return NativeResult("equal", graded=result)
    problem = CompatError(
        f"{subject.reference.id}: the current code's own loader loads it, but "
        "the outputs differ.",
        facts=result.facts,
        remedy="Fix neural-lam's own loader (on_load_checkpoint), or undo the "
        "change.",
    )
    return NativeResult("differs", problem, result)


def judge_native(
    subject: ReferenceUnderTest, result: NativeResult, recorded: Version | None
) -> tuple[str, ...]:
    """Raise if the own loader has lost a file for no reason.

    `result` is that of `try_native`; `recorded` the release that loads the file
    with its own loader, None if none does: then nothing can be lost. Returns
    the ids of the repository's migrations without which the own loader can't
    load the file; none if it can, or never could.

    Raises
    ------
    CompatError
        The loader is worse than that release's, and it is not for lack of
        migrations that the repository has registered with this plugin.
    """
    if result.problem is None or recorded is None:
        return ()
    missing = missing_steps(subject)
    if missing:
        return missing
    lost, facts = "no longer loads it", dict(result.problem.facts)
    if result.outcome == "fails":
        facts = {"cause": result.problem.what} | facts
    else:
        lost = "loads it, but with other outputs and without an error"
    raise CompatError(
        f"{subject.reference.id}: neural-lam's own loader {lost}.",
        facts={
            f"neural-lam {recorded}": "loads it, with the right outputs",
            **facts,
        },
        remedy="People load their checkpoints without this plugin. Restore "
        "what neural-lam's own loader did (on_load_checkpoint), or give the "
        "file up by name and reason: ini key nlam_compat_given_up.",
    ) from result.problem


def missing_steps(subject: ReferenceUnderTest) -> tuple[str, ...]:
    """Return the repository's migrations that its own loader lacks.

    They are why the native route fails if the loader loads a file to which
    they have been applied, and not one to which only neural-lam's history
    has: else the loader has lost something that no migration of the
    repository replaces.
    """
    own = {step.id for step in subject.registry.own}
    missing = tuple(step.id for step in subject.steps if step.id in own)
    if not missing:
        return ()
    if loads_migrated(subject) and not loads_migrated(subject, own=False):
        return missing
    return ()


def loads_migrated(subject: ReferenceUnderTest, *, own: bool = True) -> bool:
    """Whether the own loader gives the golden from the migrated run as a file.

    Without `own`, only neural-lam's history is applied, not the migrations of
    the repository.
    """
    with tempfile.TemporaryDirectory() as folder:
        if not own:
            subject = ReferenceUnderTest(
                subject.reference,
                subject.adapter,
                Path(folder),
                subject.device,
                history=subject.registry.history,
            )
        path = Path(folder) / "migrated.ckpt"
        try:
            subject.write_migrated(path)
        except CompatError:
            return False
        return try_native(subject, path).problem is None


def natively_loaded(
    archives: Iterable[ReleaseArchive], adapter: Adapter
) -> Iterator[tuple[str, NativeResult]]:
    """Try the native route of each reference that the current code can run."""
    for archive in archives:
        for case in archive.cases:
            reference = Reference(archive, case)
            if adapter.cannot_run(reference.description["model"]) is None:
                with tempfile.TemporaryDirectory() as folder:
                    subject = ReferenceUnderTest(
                        reference, adapter, Path(folder), torch.device("cpu")
                    )
                    yield reference.id, try_native(subject)
