"""Judge the migrations themselves: of all registries in this run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_nlam_compat.adapters.probe import UPSTREAM, upstream_registry
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import HISTORY, Migration
from pytest_nlam_compat.migrations.lint import (
    Finding,
    check_layout,
    check_on_run,
    check_registry,
)
from pytest_nlam_compat.migrations.stamps import UPSTREAM_STAMP
from pytest_nlam_compat.migrations.upstream import check_numbers, check_on_file
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_OWNERS = {
    "history": "neural-lam's history",
    "repository": "this repository",
    UPSTREAM: UPSTREAM,
}


def registries(own: Sequence[Migration]) -> list[str]:
    """List the registries of migrations, given those of the repository.

    ``history`` (neural-lam's, in this package), ``repository`` if it has
    migrations, and ``neural_lam.migrations`` if that exists.
    """
    names = ["history", *["repository"] * bool(own)]
    with code_under_test(f"Importing {UPSTREAM}"):
        if upstream_registry() is not None:
            names.append(UPSTREAM)
    return names


def judge_registry(name: str, own: Sequence[Migration], source: str) -> None:
    """Check ids, reasons and order of the migrations of a registry.

    `name` is one of `registries`, `own` are those of the repository, read from
    `source` if it is not empty.

    Raises
    ------
    CompatError
        With all findings.
    """
    if name == UPSTREAM:
        upstream = upstream_registry()
        assert upstream is not None
        findings = check_numbers(upstream.migrations, upstream.newest)
    else:
        findings = check_registry(HISTORY if name == "history" else own)
    at = f" ({source})" if source and name == "repository" else ""
    what = f"The migrations of {_OWNERS[name]}{at} are not in order."
    _raise_on(findings, what)


def judge_migrations(
    subject: ReferenceUnderTest, layout_changed: Callable[[], bool]
) -> None:
    """Check that each migration fits a saved run, up to the current layout.

    Parameters
    ----------
    subject : ReferenceUnderTest
    layout_changed : callable
        Whether the current code has left the layout of its release. If so,
        its own loader may do the rest, and the strict load is the judge.

    Raises
    ------
    CompatError
        With all findings.
    """
    registry = subject.registry
    run, release = subject.float64, subject.reference.release
    findings = check_on_run(registry.steps, release, registry.layout, run)
    if not findings:
        findings = _on_layout(subject)
        if findings and layout_changed():
            findings = []
    upstream = upstream_registry()
    if upstream is not None:
        stamp = run.stamps.get(UPSTREAM_STAMP, 0)
        findings += check_on_file(upstream.migrations, stamp, run.state_dict)
    what = f"{subject.reference.id}: migrations for it are not in order."
    _raise_on(findings, what)


def _on_layout(subject: ReferenceUnderTest) -> list[Finding]:
    try:
        layout = subject.layout()
    except CompatError:
        # The model can't be built: test_loads says so.
        return []
    return check_layout(subject.registry.steps, subject.migrated, layout)


def _raise_on(findings: Iterable[Finding], what: str) -> None:
    problems: dict[str, list[str]] = {}
    for finding in findings:
        problems.setdefault(f"step {finding.step}", []).append(finding.problem)
    if problems:
        raise CompatError(
            what,
            facts={step: " ".join(found) for step, found in problems.items()},
            remedy="Fix them. Published migrations never change: add another "
            "one instead.",
        )
