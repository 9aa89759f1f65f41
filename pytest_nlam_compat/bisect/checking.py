"""The checks of one commit, in a process that imports its neural_lam.

``python -m pytest_nlam_compat.bisect.checking REQUEST RESULT``, in the
folder of the working tree.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pytest

from pytest_nlam_compat.bisect.watchdog import end_with_parent

# Of the steps, not of what the model computes.
_OTHERS = frozenset({"test_migrations"})


class Request(TypedDict):
    """What to check.

    Attributes
    ----------
    release, case : str
        As for the options of the plugin.
    wanted : list of str or None
        Names of tests; None for all that tell what a model computes.
    first : bool
        Whether the first failure is enough.
    diagnose : bool
        Whether to look for the causes.
    temporary : str
        Folder for the tests.
    """

    release: str
    case: str
    wanted: list[str] | None
    first: bool
    diagnose: bool
    temporary: str


class Result(TypedDict):
    """What came of it.

    Attributes
    ----------
    status : int
        Of pytest.
    interrupted : bool
    package : str
        Folder of the neural_lam that was imported; empty if none was.
    taken_for : str
        Release that it was taken for.
    offered : list of str
        Names of the tests that there were.
    failed : dict of str to dict
        Properties of those that failed, by name.
    """

    status: int
    interrupted: bool
    package: str
    taken_for: str
    offered: list[str]
    failed: dict[str, dict[str, object]]


class _Watching:
    """Runs what is wanted, and notes what becomes of it."""

    def __init__(self, wanted: list[str] | None) -> None:
        self.wanted = wanted
        self.result = Result(
            status=0,
            interrupted=False,
            package="",
            taken_for="",
            offered=[],
            failed={},
        )

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        from pytest_nlam_compat.checks.selection import selection_of

        current = selection_of(config).adapter.current
        self.result["package"] = str(current.path)
        self.result["taken_for"] = str(current.release)
        items[:] = [item for item in items if self._is_wanted(item)]
        self.result["offered"] = [item.name for item in items]

    def _is_wanted(self, item: pytest.Item) -> bool:
        if self.wanted is not None:
            return item.name in self.wanted
        check = item.name.partition("[")[0]
        of_reference = "nlam_reference" in getattr(item, "fixturenames", ())
        return of_reference and check not in _OTHERS

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            name = report.nodeid.rpartition("::")[2]
            self.result["failed"].setdefault(name, {}).update(
                report.user_properties
            )

    def pytest_keyboard_interrupt(
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> None:
        # pytest's own classes derive from it, and mean errors.
        self.result["interrupted"] |= excinfo.type is KeyboardInterrupt


def main(argv: Sequence[str]) -> int:
    """Run the checks, and write down what came of them.

    Parameters
    ----------
    argv : sequence of str
        The file with the request, and that for the result.

    Returns
    -------
    int
        0: what the checks say is in the result.
    """
    end_with_parent()
    request, result = map(Path, argv)
    asked: Request = json.loads(request.read_text(encoding="utf-8"))
    watching = _Watching(asked["wanted"])
    options = [
        "--nlam-compat",
        f"--nlam-compat-release={asked['release']}",
        f"--nlam-compat-case={asked['case']}",
        f"--basetemp={asked['temporary']}",
        # Each commit is judged alike, whatever options it brings along.
        "-oaddopts=",
        "-pno:cacheprovider",
    ]
    if asked["first"]:
        options.append("-x")
    if not asked["diagnose"]:
        options.append("-pno:nlam-compat-explainer")
    status = pytest.main(options, plugins=[watching])
    watching.result["status"] = int(status)
    result.write_text(
        json.dumps(watching.result, default=str), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
