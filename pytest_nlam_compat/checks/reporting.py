"""Header and closing matrix of a pytest run."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_nlam_compat.reports import causes
from pytest_nlam_compat.reports.matrix import Cell, render

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.checks.selecting import Selection


class Reporting:
    """Shows what is checked against what, and what came of it.

    Parameters
    ----------
    selection : Selection
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    @pytest.hookimpl
    def pytest_report_header(self) -> list[str]:
        """Name code, device and references."""
        chosen, current = self._selection, self._selection.adapter.current
        releases = sorted({r.release for r in chosen.references})
        lines = [
            f"nlam-compat: neural-lam {current.version} at {current.path}, "
            f"taken for {current.release} since {current.evidence}",
            f"nlam-compat: torch {torch.__version__} on "
            f"{_device(chosen.device)}",
            f"nlam-compat: {_count(len(chosen.references), 'reference')} of "
            f"{_names(releases)}, from {chosen.store.description}",
        ]
        if chosen.newer:
            lines.append(
                "nlam-compat: left out, newer than the current code: "
                f"{_names(chosen.newer)}"
            )
        if chosen.void:
            lines.append(
                f"nlam-compat: {_count(len(chosen.void), 'void case')}, "
                "see the end"
            )
        if chosen.migrations:
            count = _count(len(chosen.migrations), "migration")
            ids = ", ".join(step.id for step in chosen.migrations)
            lines.append(f"nlam-compat: {count} of this repository: {ids}")
        lines += [f"nlam-compat: {notice}" for notice in chosen.notices]
        return lines

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Sum a failure up in its first line.

        In CI pytest cuts no line of its summary: each failure would be told
        twice, in full. So would JUnit, whose message this is as well.
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
        """Draw the matrix of releases and cases."""
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
        width = terminalreporter._tw.fullwidth
        for line in render(cells, width):
            terminalreporter.line(line)
        failed = [
            (_parameter(report.nodeid), dict(report.user_properties))
            for report in reports
            if report.outcome == "failed"
        ]
        for line in causes.render(causes.group(failed)):
            terminalreporter.line(line)

    def _cells(
        self, reports: Iterable[pytest.TestReport]
    ) -> dict[tuple[Version, str], Cell]:
        chosen = self._selection
        cells = {
            place: Cell(void=reason) for place, reason in chosen.void.items()
        }
        by_id = {}
        for reference in chosen.references:
            cell = Cell()
            cells[reference.release, reference.case] = cell
            by_id[reference.id] = cell
        for report in reports:
            found = by_id.get(_parameter(report.nodeid))
            if found is not None:
                found.add(
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
