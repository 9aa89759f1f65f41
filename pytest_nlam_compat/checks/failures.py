"""How a CompatError is shown as a failed check, with its cause."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.diagnosis.findings import Finding
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_EXPLAINED = frozenset(
    {
        "batch",
        "loads",
        "loss",
        "native",
        "outputs",
        "outputs_float32",
        "resumes",
    }
)
# Their messages name the cause, unless the outputs are wrong as well.
_SELF_EXPLAINING = frozenset({"native", "resumes"})

# Of the 30 s that the diagnosis of a reference may take.
_SEARCH_SECONDS = 15.0


@contextmanager
def fail_without_traceback() -> Iterator[None]:
    """Turn a CompatError into a failed test that shows its message alone."""
    __tracebackhide__ = True
    try:
        yield
    except CompatError as error:
        # Not chained: pytest would print the message once more as a cause.
        raise pytest.fail.Exception(str(error), pytrace=False) from None


class FailureExplainer:
    """Adds its cause to each failed check, in full once for each cause.

    Diagnosis and search are imported on the first failure.
    """

    def __init__(self) -> None:
        self._findings: dict[tuple[str, str], Finding | None] = {}
        self._shown_by: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(
        self, pyfuncitem: pytest.Function
    ) -> Generator[None, object, object]:
        """Run a check; if it fails, add the cause to its message."""
        try:
            return (yield)
        except pytest.fail.Exception as failure:
            text = self._explained(pyfuncitem, failure.msg or "")
            if text is None:
                raise
            raise pytest.fail.Exception(text, pytrace=False) from None

    def _explained(self, item: pytest.Function, text: str) -> str | None:
        """Return the message with its cause, None if it has none."""
        subject: Any = item.funcargs.get("nlam_subject")
        check = (item.originalname or item.name).removeprefix("test_")
        if subject is None or check not in _EXPLAINED:
            return None
        try:
            finding = self._finding(subject, check)
        # A broken diagnosis must not hide the failure.
        except Exception as error:
            return (
                f"{text}\n\nThe diagnosis itself failed, please report it: "
                f"{type(error).__name__}: {error}"
            )
        if finding is None:
            return None
        item.user_properties += [
            ("nlam_cause", finding.cause),
            ("nlam_cause_kind", finding.kind),
            ("nlam_cause_module", finding.module),
            ("nlam_cause_source", finding.source),
        ]
        first = self._shown_by.setdefault(finding.cause, item.nodeid)
        if first != item.nodeid:
            what, _, _ = text.partition("\n")
            return f"{what}\n  cause: {finding.cause}\nSame cause as {first}."
        facts = [f"  {label}: {f}" for label, f in finding.facts().items()]
        fix = self._suggestion(item, subject)
        return "\n".join([text, "", "Why:", *facts, *fix])

    def _finding(
        self, subject: ReferenceUnderTest, check: str
    ) -> Finding | None:
        from pytest_nlam_compat.diagnosis.explain import OF_A_CHECK, why

        name = subject.reference.id
        # Wrong outputs are why all other checks of a reference fail.
        shared = self._findings.get((name, ""))
        if shared is not None:
            return shared
        if (name, check) not in self._findings:
            finding: Finding | None = why(subject, check)
            assert finding is not None
            if finding.kind not in OF_A_CHECK:
                self._findings[name, ""] = finding
            elif check in _SELF_EXPLAINING and finding.kind == "none":
                finding = None
            self._findings[name, check] = finding
        return self._findings[name, check]

    def _suggestion(
        self, item: pytest.Function, subject: ReferenceUnderTest
    ) -> list[str]:
        """Search for a migration that fixes the failure; return its report."""
        try:
            from pytest_nlam_compat.suggest.search import Budget
            from pytest_nlam_compat.suggest.suggest import suggest_steps

            with tempfile.TemporaryDirectory() as folder, _no_stderr():
                found = suggest_steps(
                    [subject], Path(folder), Budget(seconds=_SEARCH_SECONDS)
                )
        # For example a reference that can't be read: the failure says so.
        except CompatError:
            return []
        except Exception as error:
            return [
                "",
                "The search for a fix failed, please report it: "
                f"{type(error).__name__}: {error}",
            ]
        if not found.verified:
            return []
        item.user_properties += [
            ("nlam_suggestion", step.python()) for step in found.steps
        ]
        return [
            "",
            "How to fix it:",
            found.report(),
            "`nlam-compat suggest --write` proves it on all references and "
            "adds it to the migrations of the repository.",
        ]


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what the code under test logs about each model that is tried."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
