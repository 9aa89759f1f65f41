"""Header and closing matrix of a pytest run."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_nlam_compat.reports import causes
from pytest_nlam_compat.reports.matrix import Cell, render
from pytest_nlam_compat.reports.native_changes import render_changes

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.checks.selection import Selection


class HeaderAndSummary:
    """Shows what is checked against which code, and the results."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    @pytest.hookimpl
    def pytest_report_header(self) -> list[str]:
        """Name code, device and references."""
        chosen, current = self._selection, self._selection.adapter.current
        releases = sorted({r.release for r in chosen.references})
        installed = ""
        if current.version != str(current.release):
            installed = f", installed as {current.version}"
        lines = [
            f"neural-lam {current.release} (detected by {current.evidence}"
            f"{installed}) at {current.path}",
            f"torch {torch.__version__} on {_device(chosen.device)}",
            f"{_count(len(chosen.references), 'reference')} of "
            f"{_names(releases)}, from {chosen.store.description}",
        ]
        if chosen.newer:
            newer = _names(chosen.newer)
            lines.append(f"left out, newer than the current code: {newer}")
        if chosen.void:
            lines.append(
                f"{_count(len(chosen.void), 'void case')}, see the end"
            )
        if chosen.migrations:
            count = _count(len(chosen.migrations), "migration")
            ids = ", ".join(step.id for step in chosen.migrations)
            lines.append(f"{count} of this repository: {ids}")
        lines += chosen.notices
        return [f"nlam-compat: {line}" for line in lines]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Shorten the message of a failure to its first line.

        Otherwise the summary of pytest in CI, and JUnit, repeat all of it.
        """
        report = yield
        failure = call.excinfo and call.excinfo.value
        crash = getattr(report.longrepr, "reprcrash", None)
        if (
            isinstance(failure, pytest.fail.Exception)
            and not failure.pytrace
            and crash is not None
        ):
            crash.message = crash.message.partition("\n")[0]
        return report

    @pytest.hookimpl
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Print the matrix of releases and cases, and the causes."""
        reports = [
            report
            for outcome in ("passed", "failed", "error")
            for report in terminalreporter.stats.get(outcome, [])
            if isinstance(report, pytest.TestReport)
        ]
        cells = self._cells(reports)
        if not any(cell.checked for cell in cells.values()):
            return
        terminalreporter.section("neural-lam checkpoints")
        found: dict[str, list[tuple[str, dict[str, object]]]] = {
            "passed": [],
            "failed": [],
        }
        for report in reports:
            found[report.outcome].append(
                (_parameter(report.nodeid), dict(report.user_properties))
            )
        for line in render(cells, terminalreporter._tw.fullwidth):
            terminalreporter.line(line)
        native = self._selection.native.release
        for line in render_changes(found["passed"], native):
            terminalreporter.line(line)
        for line in causes.render(causes.group(found["failed"])):
            terminalreporter.line(line)

    def _cells(
        self, reports: Iterable[pytest.TestReport]
    ) -> dict[tuple[Version, str], Cell]:
        chosen = self._selection
        cells = {at: Cell(void=reason) for at, reason in chosen.void.items()}
        by_id = {reference.id: Cell() for reference in chosen.references}
        for reference in chosen.references:
            cells[reference.release, reference.case] = by_id[reference.id]
        for report in reports:
            cell = by_id.get(_parameter(report.nodeid))
            if cell is not None:
                cell.add(
                    report.nodeid.rpartition("::")[2].partition("[")[0],
                    report.outcome == "passed",
                    dict(report.user_properties),
                    setup=report.when == "setup",
                )
        return cells


def _parameter(nodeid: str) -> str:
    return nodeid.rpartition("[")[2].removesuffix("]")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(releases: Iterable[Version]) -> str:
    return ", ".join(map(str, releases))


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
