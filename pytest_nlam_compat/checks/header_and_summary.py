"""Header and closing matrix of a pytest run."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_nlam_compat.checks.run_results import RunResults
from pytest_nlam_compat.reports.results import all_checks
from pytest_nlam_compat.reports.summary import header, summary

_STYLES = {
    "NEURAL-LAM ": {"yellow": True, "bold": True},
    "FAILED ": {"red": True, "bold": True},
    "  How to fix it": {"green": True},
}


class HeaderAndSummary:
    """Shows what is checked against which code, and the results."""

    def __init__(self, run: RunResults) -> None:
        self._run = run

    @pytest.hookimpl
    def pytest_report_header(self) -> list[str]:
        """Name code, device and references, if they are known by now."""
        return header(self._run.facts)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """Print the matrix of releases and cases, and the causes.

        After all else, and instead of a block and a line for each failed
        check: these are shown with ``-v``.
        """
        stats, quiet = terminalreporter.stats, terminalreporter.verbosity <= 0
        kept: dict[str, list[Any]] = {
            name: stats[name] for name in ("failed", "error") if name in stats
        }
        if quiet:
            for name, found in kept.items():
                stats[name] = [r for r in found if not _is_of_check(r)]
        try:
            yield
        finally:
            stats.update(kept)
        failed = {
            report.nodeid
            for found in kept.values()
            for report in found
            if _is_of_check(report)
        }
        writer = terminalreporter._tw

        def paint(text: str, colour: str) -> str:
            return writer.markup(text, **({colour: True} if colour else {}))

        results = self._run.results()
        lines = summary(
            results,
            {c["cause"] for c in all_checks(results) if c["id"] in failed},
            writer.fullwidth,
            # Equal rows are one where all has to fit a screen.
            merge=quiet and bool(failed),
            paint=paint,
        )
        for number, line in enumerate(lines):
            if not number:
                terminalreporter.section("neural-lam checkpoints")
            style = next((s for s in _STYLES if line.startswith(s)), "")
            terminalreporter.line(line, **_STYLES.get(style, {}))
        if terminalreporter.verbosity < 0 or terminalreporter.no_header:
            # Not shown above, and nobody may take another tree for it.
            for line in header(self._run.facts)[:1]:
                terminalreporter.line(line)


def _is_of_check(report: object) -> bool:
    """Tell whether a report is of the ready-made checks."""
    return "nlam_compat" in getattr(report, "keywords", {})
