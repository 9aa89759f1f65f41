"""How a CompatError is shown as a failed check, with its cause."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nlam_compat.checks.run_results import MESSAGE, record_shares
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.reports.causes import NOT_MIGRATED

if TYPE_CHECKING:
    from pytest_nlam_compat.checks.newer_references import NewerReferences
    from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Their messages name the cause, unless the outputs are wrong as well.
_SELF_EXPLAINING = {"evaluates", "native", "resumes", "saves"}

# Of the 30 s that the diagnosis of a reference may take.
_SEARCH_SECONDS = 15.0


class FailureExplainer:
    """Adds its cause to each failed check, in full once for each cause.

    Diagnosis and search are imported on the first failure. Newer references
    show the cause where one holds no trace.
    """

    def __init__(self, newer: NewerReferences) -> None:
        self._newer = newer
        self._diagnoses: dict[tuple[str, str], Diagnosis | None] = {}
        # The check that showed a cause in full, and its sentence.
        self._shown: dict[str, tuple[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Show the message of a fixture that fails, without a traceback."""
        try:
            return (yield)
        except CompatError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(
        self, pyfuncitem: pytest.Function
    ) -> Generator[None, object, object]:
        """Run a check; if it fails, show its message and the cause alone."""
        try:
            return (yield)
        except CompatError as error:
            text = pyfuncitem.stash[MESSAGE] = str(error)
            record_shares(pyfuncitem, error.shares)
            text = self._explained(pyfuncitem, text) or text
            # Not chained: pytest would print the message once more.
            raise pytest.fail.Exception(text, pytrace=False) from None

    def _explained(self, item: pytest.Function, text: str) -> str | None:
        """Return the message with its cause, None if it has none."""
        from pytest_nlam_compat.judging.all_checks import CHECKS

        subject: Any = item.funcargs.get("nlam_subject")
        check = (item.originalname or item.name).removeprefix("test_")
        if subject is None or check not in CHECKS:
            return None
        if subject.reference.release > subject.adapter.current.release:
            # No migration leads back to the current code.
            return None
        try:
            found = self.diagnosis(subject, check)
        # A broken diagnosis must not hide the failure.
        except Exception as error:
            return (
                f"{text}\n\nThe diagnosis itself failed, please report it: "
                f"{type(error).__name__}: {error}"
            )
        if found is None:
            return None
        fix: list[str] = []
        is_first = found.key not in self._shown
        if is_first:
            fix, found = self._suggestion(item, subject, found)
            self._shown[found.key] = item.nodeid, found.cause
        first, cause = self._shown[found.key]
        told = found.properties() | {"nlam_cause": cause}
        item.user_properties += told.items()
        if not is_first:
            what, _, _ = text.partition("\n")
            return f"{what}\n  cause: {cause}\nSame cause as {first}."
        facts = [f"  {label}: {f}" for label, f in found.facts().items()]
        return "\n".join([text, "", "Why:", *facts, *fix])

    def diagnosis(
        self, subject: ReferenceUnderTest, check: str
    ) -> Diagnosis | None:
        """Explain a failed check; None if its message says all there is."""
        from pytest_nlam_compat.diagnosis.diagnosis import OF_ONE_CHECK
        from pytest_nlam_compat.diagnosis.explain import explain

        def by_newer() -> Diagnosis | None:
            newer = self._newer(subject)
            return self.diagnosis(newer, "outputs") if newer else None

        name = subject.reference.id
        # Wrong outputs are why all other checks of a reference fail.
        shared = self._diagnoses.get((name, ""))
        if shared is not None:
            return shared
        if (name, check) not in self._diagnoses:
            found: Diagnosis | None = explain(subject, check, by_newer)
            assert found is not None
            if found.kind not in OF_ONE_CHECK:
                self._diagnoses[name, ""] = found
            elif check in _SELF_EXPLAINING and found.kind == "none":
                found = None
            self._diagnoses[name, check] = found
        return self._diagnoses[name, check]

    def _suggestion(
        self, item: pytest.Function, subject: ReferenceUnderTest, why: Diagnosis
    ) -> tuple[list[str], Diagnosis]:
        """Search for a migration that fixes the failure.

        Returns what it found, and the cause as the verified steps show it.
        """
        if why.kind in NOT_MIGRATED:
            return [], why
        try:
            from pytest_nlam_compat.diagnosis.explain import (
                by_proved_steps,
                with_next_cause,
            )
            from pytest_nlam_compat.suggest.search import SearchBudget
            from pytest_nlam_compat.suggest.suggester import Suggester

            budget = SearchBudget(seconds=_SEARCH_SECONDS)
            with tempfile.TemporaryDirectory() as folder, silence():
                others = self._newer.others
                found = Suggester(
                    Path(folder), budget, self._newer, others
                ).suggest([subject])
            if found.verified:
                why = by_proved_steps(subject, why, found.operations(subject))
            elif found.next_cause is not None:
                why = with_next_cause(why, found.next_cause)
        # For example a reference that can't be read: the failure says so.
        except CompatError:
            return [], why
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            failed = "The search for a fix failed, please report it"
            return ["", f"{failed}: {text}"], why
        if not found.verified:
            return [], why
        item.user_properties += [
            ("nlam_suggestion", step.python()) for step in found.steps
        ]
        report = [
            "",
            found.brief(),
            "`nlam-compat suggest --write` proves it on all references and "
            "adds it to the migrations of the repository.",
        ]
        return report, why


@contextmanager
def silence() -> Iterator[None]:
    """Drop what the code under test logs about each model that is tried."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
