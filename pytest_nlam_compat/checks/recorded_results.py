"""What a check puts into its report: numbers, its message, a map.

Properties reach JUnit; the rest is an attribute of the report. pytest-xdist
and pytest-reportlog write both.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_nlam_compat.judging.grade import Result

ATTRIBUTE = "nlam_compat"
"""Of a report: ``message`` and ``map``."""

_MAP = pytest.StashKey[Any]()
_MESSAGE = pytest.StashKey[str]()

Record = Callable[[str, object], None]


def record_shares(record: Record, shares: Mapping[str, float]) -> None:
    """Record the share of each tolerance, and the largest."""
    for name, share in shares.items():
        record(f"nlam_share[{name}]", share)
    if shares:
        record("nlam_share", max(shares.values()))


@contextmanager
def recorded_failure(record: Record) -> Iterator[None]:
    """Record the shares of a comparison that fails, too."""
    try:
        yield
    except CompatError as error:
        record_shares(record, error.shares)
        raise


def record_map(item: pytest.Item, result: Result | None) -> None:
    """Keep the map of a rollout for the report, if a report is wanted."""
    if result is not None and item.config.getoption("nlam_compat_report"):
        from pytest_nlam_compat.judging.error_maps import error_map

        item.stash[_MAP] = error_map(result)


class AttachResults:
    """Attaches to each report what has no place in a property."""

    # The innermost wrapper: others add the cause to the message.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_pyfunc_call(
        self, pyfuncitem: pytest.Function
    ) -> Generator[None, object, object]:
        """Keep the message of a failure as the check has raised it."""
        try:
            return (yield)
        except pytest.fail.Exception as failure:
            pyfuncitem.stash[_MESSAGE] = failure.msg or ""
            raise

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
        if "nlam_compat" in report.keywords and not shown & {"A", "P"}:
            # What neural-lam and Lightning log about each model.
            report.sections.clear()
        if report.when == "call":
            attached = {
                "message": item.stash.get(_MESSAGE, ""),
                "map": item.stash.get(_MAP, None),
            }
            setattr(report, ATTRIBUTE, attached)
        return report


def without_temporary(text: str, config: pytest.Config) -> str:
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
