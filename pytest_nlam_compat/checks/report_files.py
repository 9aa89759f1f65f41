"""The report files of a run: where they go, and when they are written.

Nothing heavy is imported before the run has ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_nlam_compat.checks.run_results import run_of
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports import github
from pytest_nlam_compat.reports.report_formats import (
    check_targets,
    write_report,
)
from pytest_nlam_compat.reports.results import Results

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def report_paths(config: pytest.Config) -> list[Path]:
    """Return the paths of the option, relative to where pytest was called."""
    here = config.invocation_params.dir
    return [here / path for path in config.getoption("nlam_compat_report")]


@contextmanager
def reported(config: pytest.Config) -> Iterator[None]:
    """Report a run, even one that can't begin.

    Raises
    ------
    pytest.UsageError
        A report can't be written where it is asked for.
    """
    try:
        check_targets(report_paths(config))
    except CompatError as error:
        raise pytest.UsageError(str(error)) from error
    reports = _ReportFiles(config)
    config.pluginmanager.register(reports, "nlam-compat-reports")
    try:
        yield
    # An interrupt as well; nothing else tells of a run without a session.
    except BaseException as error:
        reports.run.reason = str(error) or type(error).__name__
        reports.run.exit_status = _status_of(error)
        reports.write_now()
        raise


def _status_of(error: BaseException) -> pytest.ExitCode:
    """Return the exit status of a run that an error ends."""
    if isinstance(error, pytest.UsageError):
        return pytest.ExitCode.USAGE_ERROR
    if isinstance(error, KeyboardInterrupt):
        return pytest.ExitCode.INTERRUPTED
    return pytest.ExitCode.INTERNAL_ERROR


class _ReportFiles:
    """Gathers the results of a run, and writes its reports at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lines: list[str] = []
        self.run = run_of(config)

    @pytest.hookimpl
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> None:
        """Write the reports; a run without its reports has not passed."""
        if not self._write() and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Say where the reports are, and annotate failures on GitHub."""
        for line in self._lines:
            terminalreporter.write_line(line)

    def write_now(self) -> None:
        """Write the reports of a run that can't begin, and say so."""
        self._write()
        if not self._lines:
            return
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        print(*self._lines, sep="\n", flush=True)

    def _write(self) -> bool:
        """Write all reports; return whether each could be."""
        try:
            results = self.run.results()
        except Exception as error:
            self._lines.append(_broken("reports", error))
            return False
        whole = True
        for path in report_paths(self._config):
            try:
                write_report(results, path)
                self._lines.append(f"nlam-compat: report written to {path}")
            except CompatError as error:
                whole = False
                self._lines.append(f"nlam-compat: {error}")
            # The other reports, and the summary, have to be shown all the same.
            except Exception as error:
                whole = False
                self._lines.append(_broken(f"report {path}", error))
        self._lines += self._on_github(results)
        return whole

    def _on_github(self, results: Results) -> list[str]:
        summary = os.environ.get(SUMMARY_VARIABLE)
        lines = []
        if summary:
            try:
                github.append_summary(results, Path(summary))
            except OSError as error:
                lines.append(
                    f"nlam-compat: {SUMMARY_VARIABLE} can't be written: {error}"
                )
        if os.environ.get("GITHUB_ACTIONS") == "true":
            workspace = os.environ.get("GITHUB_WORKSPACE") or Path.cwd()
            lines += github.commands(results, Path(workspace))
        return lines


def _broken(what: str, error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return f"nlam-compat: the {what} failed, please report it: {text}"
