"""What checks record in their reports, and the results gathered from these.

Properties reach JUnit; a message and a map are an attribute of the report.
pytest-xdist and pytest-reportlog write both.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nlam_compat.reports import causes
from pytest_nlam_compat.reports.results import (
    NOT_RUN,
    CauseResult,
    Check,
    Results,
    finite,
    no_results,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.judging.grade import Result

NODE_ID = "nlam-compat"
"""Of the ready-made checks; the id of each begins with it."""

MESSAGE = pytest.StashKey[str]()
"""Of a check that failed: its message, without the cause."""

_MAP = pytest.StashKey[Any]()

_NAME = "nlam-compat-run"
# Of our checks, and the name of the attribute of their reports.
_MARK = "nlam_compat"
# The check that is for no reference.
_REGISTRY = "test_registry"
# What is said of the native route: by property, its label in the results.
_NATIVE = {
    "nlam_native": "outcome",
    "nlam_native_difference": "difference",
    "nlam_native_cause": "cause",
    "nlam_native_gained": "gained",
    "nlam_native_missing": "missing",
    "nlam_given_up": "given up",
}
_STOPPED = {
    pytest.ExitCode.INTERRUPTED: "The run was interrupted.",
    pytest.ExitCode.INTERNAL_ERROR: "pytest itself failed.",
    pytest.ExitCode.USAGE_ERROR: "The run could not begin.",
    pytest.ExitCode.NO_TESTS_COLLECTED: "No check was selected.",
}


def record_shares(item: pytest.Item, shares: Mapping[str, float]) -> None:
    """Record the share of each tolerance, and the largest."""
    item.user_properties += [
        (f"nlam_share[{name}]", share) for name, share in shares.items()
    ]
    if shares:
        item.user_properties.append(("nlam_share", max(shares.values())))


def record_map(item: pytest.Item, result: Result) -> None:
    """Keep the map of a rollout for the report, if a report is wanted."""
    if item.config.getoption("nlam_compat_report"):
        from pytest_nlam_compat.judging.error_maps import error_map

        item.stash[_MAP] = error_map(result)


class AttachResults:
    """Attaches to each report what has no place in a property."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach message and map; shorten what pytest prints of a failure.

        Its summary in CI, and JUnit, repeat the whole message otherwise.
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
        shown = set(item.config.option.reportchars)
        if _MARK in report.keywords and not shown & {"A", "P"}:
            # What neural-lam and Lightning log about each model.
            report.sections.clear()
        if report.when == "call":
            attached = {
                "message": item.stash.get(MESSAGE, ""),
                "map": item.stash.get(_MAP, None),
            }
            setattr(report, _MARK, attached)
        return report


def run_of(config: pytest.Config) -> RunResults:
    """Return the results of a run, which are gathered from now on."""
    plugins = config.pluginmanager
    run = plugins.get_plugin(_NAME)
    if not isinstance(run, RunResults):
        run = RunResults(config)
        plugins.register(run, _NAME)
    return run


class RunResults:
    """Gathers what the checks report, in this process or in workers.

    Attributes
    ----------
    facts : Results
        What is checked, without a result.
    reason : str
        Why the run stopped early; empty if it did not.
    exit_status : int
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._begin = time.time()
        self._reports: dict[str, dict[str, pytest.TestReport]] = {}
        self._expected: dict[str, None] = {}
        self.facts = no_results()
        self.reason = ""
        # Until pytest has ended, it may still be killed.
        self.exit_status = int(pytest.ExitCode.INTERRUPTED)

    @pytest.hookimpl
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which checks are to be run, in their order."""
        self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note what a worker of pytest-xdist has collected."""
        self._expect(ids)

    def _expect(self, ids: Sequence[str]) -> None:
        self._expected |= {i: None for i in ids if self._is_check(i)}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report; that of a repetition replaces the one before."""
        if _MARK in report.keywords or self._is_check(report.nodeid):
            phases = self._reports.setdefault(report.nodeid, {})
            phases[str(report.when)] = report

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a module could not be collected."""
        if report.failed and not self.reason:
            self.reason = report.longreprtext

    @pytest.hookimpl
    def pytest_keyboard_interrupt(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> None:
        """Keep why the run was interrupted."""
        self.reason = self.reason or str(excinfo.value) or "Ctrl-C"

    @pytest.hookimpl
    def pytest_internalerror(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> None:
        """Keep which error of pytest ended the run."""
        self.reason = excinfo.exconly()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> None:
        """Note how the run ended."""
        stopped = session.shouldfail or session.shouldstop or ""
        self.reason = self.reason or str(stopped)
        self.exit_status = int(exitstatus)

    def _is_check(self, nodeid: str) -> bool:
        if nodeid.startswith(f"{NODE_ID}::"):
            return True
        name = parameter_of(nodeid)
        return any(name == each["id"] for each in self.facts["references"])

    def results(self) -> Results:
        """Return the results so far."""
        started = datetime.fromtimestamp(self._begin, timezone.utc)
        checks: dict[str, list[Check]] = {
            each["id"]: [] for each in self.facts["references"]
        }
        others: list[Check] = []
        for nodeid in self._expected | self._reports:
            found = checks.get(parameter_of(nodeid), others)
            found.append(self._check(nodeid))
        return {
            **self.facts,
            "incomplete": self._incomplete(),
            "exit_status": self.exit_status,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.time() - self._begin, 1),
            "references": [
                {**each, "checks": checks[each["id"]]}
                for each in self.facts["references"]
            ],
            "other_checks": others,
            "causes": self._causes(),
        }

    def _incomplete(self) -> str:
        reasons = []
        status = _STOPPED.get(pytest.ExitCode(self.exit_status))
        if status is not None:
            reasons.append(status)
        not_run = [i for i in self._expected if i not in self._reports]
        if not_run:
            of = len(self._expected)
            reasons.append(f"{len(not_run)} of {of} checks were not run.")
        if reasons and self.reason:
            reasons.append(self.reason)
        return _without_temporary("\n".join(reasons), self._config)

    def _check(self, nodeid: str) -> Check:
        phases = self._reports.get(nodeid, {})
        last = phases.get("call") or next(iter(phases.values()), None)
        properties = _properties(phases)
        attached = getattr(last, _MARK, None) or {}
        message = ""
        if failed := _failed(phases):
            message = attached.get("message") or failed[0].longreprtext
        difference = properties.get(
            "nlam_difference", properties.get("nlam_native_difference")
        )
        return Check(
            name=check_of(nodeid),
            id=nodeid,
            outcome=_outcome(phases),
            seconds=round(sum(r.duration for r in phases.values()), 3),
            shares={
                name[len("nlam_share[") : -1]: finite(share)
                for name, share in properties.items()
                if name.startswith("nlam_share[")
            },
            difference=None if difference is None else finite(difference),
            native={
                label: _without_temporary(str(properties[name]), self._config)
                for name, label in _NATIVE.items()
                if name in properties
            },
            left_out=_all(phases, "nlam_left_out"),
            message=_without_temporary(message, self._config),
            cause=self._failure(nodeid).key if failed else "",
            map=attached.get("map"),
        )

    def _failure(self, nodeid: str) -> causes.Failure:
        phases = self._reports[nodeid]
        report = _failed(phases)[0]
        check = check_of(nodeid)
        return causes.Failure(
            check,
            "" if check == _REGISTRY else parameter_of(nodeid),
            _without_temporary(report.longreprtext, self._config),
            _properties(phases),
            tuple(_all(phases, "nlam_suggestion")),
        )

    def _causes(self) -> list[CauseResult]:
        return causes.group(
            self._failure(nodeid)
            for nodeid in self._expected | self._reports
            if _failed(self._reports.get(nodeid, {}))
        )


def check_of(nodeid: str) -> str:
    """Return the name of the check that an id names."""
    return nodeid.rpartition("::")[2].partition("[")[0]


def parameter_of(nodeid: str) -> str:
    """Return the reference or the registry that an id names."""
    return nodeid.rpartition("[")[2].removesuffix("]")


def _failed(phases: dict[str, pytest.TestReport]) -> list[pytest.TestReport]:
    return [report for report in phases.values() if report.failed]


def _properties(phases: dict[str, pytest.TestReport]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for report in phases.values():
        found |= dict(report.user_properties)
    return found


def _all(phases: dict[str, pytest.TestReport], name: str) -> list[str]:
    """Return each value of a property, once."""
    values = {
        str(value): None
        for report in phases.values()
        for key, value in report.user_properties
        if key == name
    }
    return list(values)


def _outcome(phases: dict[str, pytest.TestReport]) -> str:
    if failed := {report.when for report in _failed(phases)}:
        return "failed" if "call" in failed else "error"
    if any(report.skipped for report in phases.values()):
        return "skipped"
    # A setup alone says nothing of the check.
    return "passed" if "call" in phases else NOT_RUN


def _without_temporary(text: str, config: pytest.Config) -> str:
    """Return a text without names of folders that are gone after the run.

    They differ from run to run, and from process to process.
    """
    lines = [
        line
        for line in text.splitlines()
        if not line.startswith("  outputs kept in: ")
    ]
    text = "\n".join(lines)
    # Not getbasetemp(): where nothing was made yet, it clears --basetemp.
    factory = getattr(config, "_tmp_path_factory", None)
    if base := getattr(factory, "_basetemp", None):
        pattern = rf"{re.escape(str(base))}(?:/popen-gw\d+)?"
        text = re.sub(pattern, "(temporary)", text)
    root = re.escape(tempfile.gettempdir())
    return re.sub(rf"{root}/(?:nlam-compat-|tmp)\w{{8}}", "(temporary)", text)
