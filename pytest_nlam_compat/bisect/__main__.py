"""Grade the commit that is checked out here: ``python -m`` REQUEST GRADES.

REQUEST is JSON, the arguments of `grade_checkout`; GRADES is a file to write.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.bisect.classify import CommitGrades
from pytest_nlam_compat.checks.newer_references import NewerReferences
from pytest_nlam_compat.checks.selection import load_selection
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


def main(request: str, file: str) -> None:
    """Grade, and write the grades after each reference: the next may hang."""
    end_with_parent()
    part = Path(file).with_suffix(".part")
    for grades in grade_checkout(**json.loads(request)):
        part.write_text(json.dumps(asdict(grades)))
        part.replace(file)


def end_with_parent() -> None:
    """Kill this process group when its standard input ends.

    If the parent was killed, nothing may go on using its worktree.
    """
    # Whoever captures output replaces the original.
    stdin = os.dup(0)

    def watch() -> None:
        while os.read(stdin, 1):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def grade_checkout(
    release: str,
    case: str,
    checks: Sequence[str] | None,
    stop_at_first: bool,
    explain: bool,
) -> Iterator[CommitGrades]:
    """Yield the grades so far, for arguments as those of `CommitGrader`."""
    options = [
        f"--nlam-compat-release={release}",
        f"--nlam-compat-case={case}",
        # Each commit is graded alike, whatever options it sets.
        "-oaddopts=",
    ]
    try:
        # Ini keys, conftest.py and migrations of a commit are pytest's to read.
        selection = load_selection(options)
    except CompatError as error:
        cause = error.facts.get("cause", "")
        yield CommitGrades(broken=f"{error.what} {cause}".rstrip())
        return
    current = selection.adapter.current
    grades = CommitGrades(detected_as=str(current.release))
    if not current.path.resolve().is_relative_to(Path.cwd().resolve()):
        grades.broken = f"another neural_lam was imported: {current.path}"
        yield grades
        return
    newer = NewerReferences(selection)
    for reference in selection.references:
        judges = _judges(newest=reference.release == selection.newest)
        names = {check: f"{check}[{reference.id}]" for check in judges}
        wanted = [c for c in judges if checks is None or names[c] in checks]
        if not wanted or (stop_at_first and grades.failed):
            continue
        with tempfile.TemporaryDirectory() as folder:
            subject = selection.subject(reference, Path(folder))
            failed = []
            for check in wanted:
                try:
                    judges[check](subject)
                    grades.passed.append(names[check])
                # A working tree can raise anything, or leave by sys.exit.
                except (Exception, SystemExit):
                    failed.append(check)
                    if stop_at_first:
                        break
            causes = _causes(subject, failed, newer) if explain else {}
        for check in failed:
            grades.failed[names[check]] = causes.get(check, {})
        yield grades
    yield grades


def _judges(
    *, newest: bool
) -> dict[str, Callable[[ReferenceUnderTest], object]]:
    """Return the checks that can tell commits apart, which raise."""
    import torch

    # They import neural_lam, which works once the code was probed.
    from pytest_nlam_compat.judging.batch_and_loss import (
        judge_batch,
        judge_loss,
    )
    from pytest_nlam_compat.judging.grade import grade
    from pytest_nlam_compat.judging.optimizer_step import judge_resumed

    def native(subject: ReferenceUnderTest) -> None:
        # Checkpoints of the newest release alone have to load natively.
        if newest and not subject.steps:
            model = subject.native_model(torch.float64)
            grade(subject, torch.float64, model).raise_on_failure()

    def outputs(dtype: torch.dtype) -> Callable[[ReferenceUnderTest], object]:
        return lambda subject: grade(subject, dtype).raise_on_failure()

    return {
        "loads": lambda subject: subject.migrated_model(torch.float64),
        "outputs": outputs(torch.float64),
        "outputs_float32": outputs(torch.float32),
        "native": native,
        "batch": judge_batch,
        "loss": judge_loss,
        "resumes": judge_resumed,
    }


def _causes(
    subject: ReferenceUnderTest, failed: Sequence[str], newer: NewerReferences
) -> dict[str, dict[str, str]]:
    """Diagnose failed checks: one that is wrong for all explains all."""
    from pytest_nlam_compat.diagnosis.diagnosis import OF_ONE_CHECK, Diagnosis
    from pytest_nlam_compat.diagnosis.explain import explain

    def by_newer() -> Diagnosis | None:
        other = newer(subject)
        return explain(other, "outputs") if other else None

    causes = {}
    for check in failed:
        try:
            found = explain(subject, check, by_newer)
        # A diagnosis that fails must not hide what it should explain.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            causes[check] = {"cause": f"the diagnosis failed, {reason}"}
            continue
        if found.kind != "none":
            source = {"cause_source": found.source}
            causes[check] = {"cause": found.cause, **source}
        if found.kind not in OF_ONE_CHECK:
            return dict.fromkeys(failed, causes[check])
    return causes


if __name__ == "__main__":
    main(*sys.argv[1:])
