"""Checks of the migrations themselves: of all registries in this run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from pytest_nlam_compat.adapters.upstream import MODULE, upstream_registry
from pytest_nlam_compat.checks.refusing import refuse
from pytest_nlam_compat.checks.selecting import Selection, selection_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import HISTORY
from pytest_nlam_compat.migrations.lint import (
    Finding,
    check_layout,
    check_on_run,
    check_registry,
)
from pytest_nlam_compat.migrations.lint_upstream import (
    check_numbers,
    check_on_file,
)
from pytest_nlam_compat.migrations.stamps import UPSTREAM_STAMP
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

NEURAL_LAM, REPOSITORY = "history", "repository"
_OWNERS = {
    NEURAL_LAM: "neural-lam's history",
    REPOSITORY: "this repository",
    MODULE: MODULE,
}


def parametrize_registries(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each registry of migrations.

    Parameters
    ----------
    metafunc : pytest.Metafunc
    """
    try:
        names = registries(selection_of(metafunc.config))
    except CompatError as error:
        refuse(metafunc.config, error)
    metafunc.parametrize("nlam_registry", names, scope="session")


def registries(selection: Selection) -> list[str]:
    """List the registries that there are.

    Parameters
    ----------
    selection : Selection

    Returns
    -------
    list of str
        ``history`` (neural-lam's, ours), ``repository`` where it brings
        migrations along, and ``neural_lam.migrations`` where that exists.
    """
    names = [NEURAL_LAM]
    if selection.migrations:
        names.append(REPOSITORY)
    with code_under_test(f"Importing {MODULE}"):
        if upstream_registry() is not None:
            names.append(MODULE)
    return names


def lint_registry(name: str, selection: Selection) -> None:
    """Insist that a registry is in order.

    Parameters
    ----------
    name : str
        One of `registries`.
    selection : Selection

    Raises
    ------
    CompatError
        All findings.
    """
    if name == MODULE:
        upstream = upstream_registry()
        assert upstream is not None
        findings = check_numbers(upstream.migrations, upstream.newest)
    else:
        findings = check_registry(
            HISTORY if name == NEURAL_LAM else selection.migrations
        )
    _raise(f"The migrations of {_OWNERS[name]} are not in order.", findings)


def lint_on_reference(
    subject: ReferenceUnderTest, moved_on: Callable[[], bool]
) -> None:
    """Insist that the migrations fit a saved run.

    Parameters
    ----------
    subject : ReferenceUnderTest
    moved_on : callable
        See `moved_on`: then it is for the strict load to say where the
        migrations, and the current code's own loader, have to lead.

    Raises
    ------
    CompatError
        All findings.
    """
    registry = subject.registry
    findings = check_on_run(
        registry.steps,
        subject.reference.release,
        registry.layout,
        subject.float64,
    )
    if not findings:
        findings = _on_layout(subject)
        if findings and moved_on():
            findings = []
    upstream = upstream_registry()
    if upstream is not None:
        run = subject.float64
        stamp = run.stamps.get(UPSTREAM_STAMP, 0)
        findings += check_on_file(upstream.migrations, stamp, run.state_dict)
    _raise(
        f"{subject.reference.id}: the migrations on its way are not in order.",
        findings,
    )


def _on_layout(subject: ReferenceUnderTest) -> list[Finding]:
    try:
        layout = subject.layout()
    except CompatError:
        # There is none to reach, which others tell.
        return []
    return check_layout(subject.registry.steps, subject.migrated, layout)


_MOVED_ON = pytest.StashKey[bool]()


def moved_on(
    config: pytest.Config, selection: Selection, folder: Callable[[], Path]
) -> bool:
    """Tell whether the current code has left the layout of its release.

    While it has not, the migrations alone have to lead there. Afterwards its
    own loader may do a part.

    Parameters
    ----------
    config : pytest.Config
        Keeps the answer.
    selection : Selection
    folder : callable
        Gives an empty folder.

    Returns
    -------
    bool
        For any of the selected references of that release; True where there
        is none.
    """
    if _MOVED_ON not in config.stash:
        config.stash[_MOVED_ON] = _moved_on(selection, folder)
    return config.stash[_MOVED_ON]


def _moved_on(selection: Selection, folder: Callable[[], Path]) -> bool:
    release = selection.adapter.current.release
    newest = [r for r in selection.references if r.release == release]
    for reference in newest:
        try:
            layout = selection.subject(reference, folder()).layout()
        except CompatError:
            return True
        if layout.keys() != reference.state_dict.keys():
            return True
    return not newest


def _raise(what: str, findings: Iterable[Finding]) -> None:
    problems: dict[str, list[str]] = {}
    for finding in findings:
        problems.setdefault(f"step {finding.step}", []).append(finding.problem)
    if problems:
        raise CompatError(
            what,
            facts={step: " ".join(found) for step, found in problems.items()},
            remedy="Mend the steps. A step that is published stays as it is: "
            "write another one.",
        )
