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
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nlam_compat.bisect.classify import CommitGrades
from pytest_nlam_compat.bisect.git import PACKAGE
from pytest_nlam_compat.checks.failures import FailureExplainer
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
    # pytest replaces the original when it captures output.
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
    """Yield the grades so far; for the arguments see `CommitGrader.grade`."""
    options = [
        f"--nlam-compat-release={release}",
        f"--nlam-compat-case={case}",
        # Each commit is graded alike, whatever options it sets.
        "-oaddopts=",
        # Its folder would lie in the cache, beside downloaded references.
        "-pno:cacheprovider",
        # Its folder alone: the conftest.py of tests may download what they
        # need, as that of neural-lam did before #391.
        PACKAGE,
    ]
    try:
        # Ini keys, migrations and a conftest.py outside of the tests of a
        # commit are pytest's to read.
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
    # It imports neural_lam, which works once the code was probed.
    from pytest_nlam_compat.judging.all_checks import CHECKS

    explainer = FailureExplainer(NewerReferences(selection))
    for reference in selection.references:
        recorded = selection.native.recorded(reference.id)
        names = {
            name: f"{name}[{reference.id}]"
            for name, check in CHECKS.items()
            if reference in selection.references_of(check)
        }
        with tempfile.TemporaryDirectory() as folder:
            subject = selection.subject(reference, Path(folder))
            failed = []
            for check, name in names.items():
                if checks is not None and name not in checks:
                    continue
                try:
                    CHECKS[check].judge(subject, recorded)
                    grades.passed.append(name)
                # A working tree can raise anything, or call sys.exit.
                except (Exception, SystemExit):
                    failed.append(check)
                    grades.failed[name] = {}
                    if stop_at_first:
                        yield grades
                        return
            for check in failed if explain else ():
                grades.failed[names[check]] = _cause(explainer, subject, check)
        yield grades


def _cause(
    explainer: FailureExplainer, subject: ReferenceUnderTest, check: str
) -> dict[str, object]:
    """Return the cause as properties of a report, none if it is not known."""
    try:
        found = explainer.diagnosis(subject, check)
    # A diagnosis that fails must not hide what it should explain.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return {"nlam_cause": f"the diagnosis failed, {reason}"}
    if found is None or found.kind == "none":
        return {}
    return found.properties()


if __name__ == "__main__":
    main(*sys.argv[1:])
