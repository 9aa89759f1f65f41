"""Header and closing matrix of a pytest run."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pytest_nlam_compat.checks.run_results import check_of, parameter_of
from pytest_nlam_compat.reports import causes
from pytest_nlam_compat.reports.matrix import Cell, render
from pytest_nlam_compat.reports.native_changes import render_changes

if TYPE_CHECKING:
    from packaging.version import Version

    from pytest_nlam_compat.checks.selection import Selection


_VERBOSE = "-v shows each check"
_NEXT = "next: `nlam-compat suggest` searches for a migration; " + _VERBOSE


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
        if chosen.shard:
            lines.append(f"shard {chosen.shard}: {len(chosen.checked)} of them")
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
        if _is_ours(report) and not self._all_output(item.config):
            # What neural-lam and Lightning log about each model.
            report.sections.clear()
        return report

    @staticmethod
    def _all_output(config: pytest.Config) -> bool:
        """Whether output is shown on purpose: ``-rA``, ``-rP``."""
        return bool(set(config.option.reportchars) & {"A", "P"})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """Print the matrix of releases and cases, and the causes.

        After all else, and instead of a block and a line for each failed
        check: these are shown with ``-v``.
        """
        stats = terminalreporter.stats
        reports = [
            report
            for outcome in ("passed", "failed", "error")
            for report in stats.get(outcome, [])
            if isinstance(report, pytest.TestReport)
        ]
        ours = [r for r in reports if r.failed and _is_ours(r)]
        kept: dict[str, list[Any]] = {
            name: stats[name] for name in ("failed", "error") if name in stats
        }
        if terminalreporter.verbosity <= 0:
            for name, found in kept.items():
                stats[name] = [r for r in found if not _is_ours(r)]
        try:
            yield
        finally:
            stats.update(kept)
        cells = self._cells(reports)
        if any(cell.checked for cell in cells.values()):
            self._show(terminalreporter, cells, reports, ours)

    def _show(
        self,
        reporter: pytest.TerminalReporter,
        cells: Mapping[tuple[Version, str], Cell],
        reports: Sequence[pytest.TestReport],
        failed: Sequence[pytest.TestReport],
    ) -> None:
        reporter.section("neural-lam checkpoints")
        # Equal rows are one where all has to fit a screen.
        merge = bool(failed) and reporter.verbosity <= 0
        writer = reporter._tw

        def paint(text: str, colour: str) -> str:
            return writer.markup(text, **({colour: True} if colour else {}))

        for line in render(cells, writer.fullwidth, merge=merge, paint=paint):
            reporter.line(line)
        passed = [
            (parameter_of(report.nodeid), dict(report.user_properties))
            for report in reports
            if report.passed
        ]
        native = self._selection.native.release
        source = self._selection.setup.source
        for line in render_changes(passed, native, source):
            is_title = line.startswith("NEURAL-LAM ")
            reporter.line(line, yellow=is_title, bold=is_title)
        found = causes.group(
            causes.Failure(
                check_of(report.nodeid),
                parameter_of(report.nodeid),
                report.longreprtext,
                dict(report.user_properties),
            )
            for report in failed
        )
        for line in causes.render(found):
            is_title = line.startswith("FAILED ")
            is_fix = line.startswith("  How to fix it")
            reporter.line(line, red=is_title, green=is_fix, bold=is_title)
        if found:
            suggest = any(cause.migrated for cause in found)
            reporter.line(_NEXT if suggest else _VERBOSE)

    def _cells(
        self, reports: Iterable[pytest.TestReport]
    ) -> dict[tuple[Version, str], Cell]:
        chosen = self._selection
        cells = {at: Cell(void=reason) for at, reason in chosen.void.items()}
        by_id = {reference.id: Cell() for reference in chosen.checked}
        for reference in chosen.checked:
            cells[reference.release, reference.case] = by_id[reference.id]
        for report in reports:
            cell = by_id.get(parameter_of(report.nodeid))
            if cell is not None:
                cell.add(
                    check_of(report.nodeid),
                    report.outcome == "passed",
                    dict(report.user_properties),
                    setup=report.when == "setup",
                )
        return cells


def _is_ours(report: pytest.TestReport) -> bool:
    """Tell whether a report is of the ready-made checks."""
    return "nlam_compat" in report.keywords


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _names(releases: Iterable[Version]) -> str:
    return ", ".join(map(str, releases))


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
