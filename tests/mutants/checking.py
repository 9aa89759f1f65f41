"""What a mutant's process does: all checks, then diagnosis and suggestion."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import torch
from packaging.version import Version

_FIXTURES = Path(__file__).parents[2] / "fixtures"
NEWEST = max(Version(archive.stem) for archive in _FIXTURES.glob("*.zip"))
FIRST_WITH_TRACE = Version("0.4.0")
# Set by `nox -s cuda`.
DEVICE = os.environ.get("MUTANTS_DEVICE", "cpu")


def check(mutant, folder: Path, fixtures: Path, *, suggest: bool):
    """Check the references of a mutant with the current code."""
    torch.set_num_threads(1)
    from loguru import logger
    from runner import Outcome

    from pytest_nlam_compat.adapters.probe import probe, select_adapter
    from pytest_nlam_compat.diagnosis.explain import (
        by_proved_steps,
        explain,
        with_next_cause,
    )

    logger.remove()
    adapter = select_adapter(probe())
    subjects = []
    for number, name in enumerate(mutant.cases):
        place = folder / f"reference{number}"
        subjects.append(subject_of(name, adapter, place, fixtures))
    outcome = Outcome()
    for subject in subjects:
        outcome.failed |= failures(subject)
    if not outcome.failed:
        return outcome

    def find_newer(subject):
        return newer_subject(subject, folder, fixtures)

    first_checks = {}
    for key in outcome.failed:
        name, _, check = key.partition(" ")
        first_checks.setdefault(name, check)
    first, *others = [s for s in subjects if s.reference.id in first_checks]

    def explained(subject):
        check = first_checks[subject.reference.id]
        return explain(
            subject, check, lambda: explain(find_newer(subject), check)
        )

    begin = time.perf_counter()
    found = explained(first)
    outcome.seconds = time.perf_counter() - begin
    print(found.facts())
    outcome.keys = [found.key, *(explained(other).key for other in others)]
    if suggest:
        steps, following = fix(
            mutant, subjects, folder, fixtures, find_newer, outcome
        )
        if steps:
            found = by_proved_steps(first, found, steps)
        elif following is not None:
            found = with_next_cause(found, following)
    outcome.kind, outcome.cause = found.kind, found.cause
    outcome.module, outcome.line = found.module, text_of(found.line)
    return outcome


def text_of(lines):
    """Return what stands in the lines of the current code."""
    import neural_lam

    folder = Path(neural_lam.__file__).parents[1]
    texts = []
    for name, number in re.findall(r"([^\s,]+\.py):(\d+)", lines):
        code = (folder / name).read_text(encoding="utf-8").splitlines()
        texts.append(code[int(number) - 1].strip())
    return "\n".join(texts)


def fix(mutant, subjects, folder, fixtures, find_newer, outcome):
    """Search for steps, write them, and check everything with what is read.

    Returns the operations for the first one, which are verified, and what is
    wrong with those that came closest.
    """
    from pytest_nlam_compat.migrations.repository import read_steps
    from pytest_nlam_compat.migrations.writing import add_to
    from pytest_nlam_compat.suggest.suggester import Suggester

    begin = time.perf_counter()

    def find_others(subject):
        return other_subjects(subject, folder, fixtures)

    found = Suggester(
        folder / "search", find_newer=find_newer, find_others=find_others
    ).suggest(subjects)
    outcome.suggesting = time.perf_counter() - begin
    print(found.report())
    outcome.verified = found.verified
    outcome.general = not any(step.width_specific for step in found.steps)
    outcome.report = found.report()
    if not found.verified:
        return (), found.next_cause
    outcome.step = "\n".join(step.python() for step in found.steps)
    file = folder / "nlam_compat_migrations.py"
    add_to(file, [step.python() for step in found.steps])
    steps = read_steps(file)
    for number, name in enumerate(mutant.cases):
        place = folder / f"fixed{number}"
        subject = subject_of(name, subjects[0].adapter, place, fixtures, steps)
        outcome.after |= failures(subject) | failures_of_steps(subject)
    return found.operations(subjects[0]), None


def subject_of(name, adapter, folder, fixtures, migrations=()):
    """Put a reference before the current code."""
    from pytest_nlam_compat.numerics.torch_settings import choose_device
    from pytest_nlam_compat.references.reference import Reference
    from pytest_nlam_compat.references.release_archive import ReleaseArchive
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

    release, _, case = name.partition("-")
    archive = ReleaseArchive(fixtures / f"{Version(release)}.zip")
    folder.mkdir()
    return ReferenceUnderTest(
        Reference(archive, case),
        adapter,
        folder,
        choose_device(DEVICE),
        migrations,
    )


def newer_subject(subject, folder, fixtures):
    """Put the next reference with a trace before the current code."""
    name = f"{FIRST_WITH_TRACE}-{subject.reference.case}"
    place = folder / f"newer-{name}"
    if place.exists():
        shutil.rmtree(place)
    return subject_of(name, subject.adapter, place, fixtures)


def other_subjects(subject, folder, fixtures):
    """Yield references of the same model and of other widths."""
    model = subject.reference.description["model"]
    for release in ("0.1.0", "0.2.0", "0.3.0"):
        place = folder / f"other-{release}"
        if not place.exists() and model in ("graph_lam", "hi_lam"):
            name = f"{release}-{model}"
            yield subject_of(name, subject.adapter, place, fixtures)


def failures(subject) -> dict[str, str]:
    """Messages of all checks that fail, by reference and name."""
    from runner import FIXTURES

    from pytest_nlam_compat.errors import CompatError
    from pytest_nlam_compat.judging.all_checks import CHECKS
    from pytest_nlam_compat.references import native_routes

    loads = native_routes.read(FIXTURES / native_routes.FILE_NAME)[NEWEST]
    recorded = NEWEST if subject.reference.id in loads else None
    failed = {}
    for name, check in CHECKS.items():
        if check.of == "newest" and subject.reference.release != NEWEST:
            continue
        try:
            check.judge(subject, recorded)
        except CompatError as error:
            failed[f"{subject.reference.id} {name}"] = str(error)
    return failed


def failures_of_steps(subject) -> dict[str, str]:
    """Messages of the check of steps."""
    from pytest_nlam_compat.migrations.lint import check_on_run

    registry, reference = subject.registry, subject.reference
    findings = check_on_run(
        registry.steps, reference.release, registry.layout, subject.float64
    )
    return {f"{reference.id} migrations": str(f) for f in findings}
