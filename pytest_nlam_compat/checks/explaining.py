"""Adds to a failed check why it failed; without a failure it does nothing."""

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
    from pytest_nlam_compat.checks.newer_references import NewerReferences
    from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
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
# These say of themselves what is wrong, unless the outputs are wrong, too.
_OF_THEIR_OWN = frozenset({"native", "resumes"})


# Of the 30 s that the diagnosis of a reference may take.
_LONGEST_SEARCH_S = 15.0


class Explaining:
    """Finds the cause of each failed check, and reports it in full once.

    Parameters
    ----------
    newer : NewerReferences
        They show the cause where a reference holds no trace.
    """

    def __init__(self, newer: NewerReferences) -> None:
        self._newer = newer
        self._found: dict[tuple[str, str], Diagnosis | None] = {}
        self._told: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(
        self, pyfuncitem: pytest.Function
    ) -> Generator[None, object, object]:
        """Run a check and, if it fails, find out why."""
        try:
            return (yield)
        except pytest.fail.Exception as failure:
            text = self._explained(pyfuncitem, failure.msg or "")
            if text is None:
                raise
            raise pytest.fail.Exception(text, pytrace=False) from None

    def _explained(self, item: pytest.Function, text: str) -> str | None:
        """Return the message with its cause, None where it has none."""
        subject: Any = item.funcargs.get("nlam_subject")
        check = (item.originalname or item.name).removeprefix("test_")
        if subject is None or check not in _EXPLAINED:
            return None
        try:
            finding = self._why(subject, check)
        # Whatever happens here must not hide what has failed.
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
        first = self._told.setdefault(finding.cause, item.nodeid)
        if first != item.nodeid:
            what, _, _ = text.partition("\n")
            return (
                f"{what}\n  cause: {finding.cause}\nAs told in full by {first}."
            )
        lines = [
            f"  {label}: {fact}" for label, fact in finding.facts().items()
        ]
        mended = self._mended(item, subject)
        return "\n".join([text, "", "Why:", *lines, *mended])

    def _mended(
        self, item: pytest.Function, subject: ReferenceUnderTest
    ) -> list[str]:
        """Look for the step that mends a cause, once for each cause."""
        try:
            from pytest_nlam_compat.suggest.search import SearchBudget
            from pytest_nlam_compat.suggest.suggestions import suggest_steps

            with tempfile.TemporaryDirectory() as folder, _quiet():
                found = suggest_steps(
                    [subject],
                    Path(folder),
                    SearchBudget(seconds=_LONGEST_SEARCH_S),
                    self._newer,
                )
        # A reference that can't be read, for one: that has been told by now.
        except CompatError:
            return []
        except Exception as error:
            return [
                "",
                "The search for what mends it failed, please report it: "
                f"{type(error).__name__}: {error}",
            ]
        if not found.verified:
            return []
        item.user_properties += [
            ("nlam_suggestion", step.python()) for step in found.steps
        ]
        return [
            "",
            "What mends it:",
            found.report(),
            "`nlam-compat suggest --write` proves it on all references, and "
            "adds it to the steps of the repository.",
        ]

    def _why(self, subject: ReferenceUnderTest, check: str) -> Diagnosis | None:
        from pytest_nlam_compat.diagnosis.diagnosis import OF_ONE_CHECK

        name = subject.reference.id
        # Wrong outputs are why all else of a reference is wrong.
        shared = self._found.get((name, ""))
        if shared is not None:
            return shared
        if (name, check) not in self._found:
            found: Diagnosis | None = self._explain(subject, check)
            assert found is not None
            if found.kind not in OF_ONE_CHECK:
                self._found[name, ""] = found
            elif check in _OF_THEIR_OWN and found.kind == "none":
                found = None
            self._found[name, check] = found
        return self._found[name, check]

    def _explain(self, subject: ReferenceUnderTest, check: str) -> Diagnosis:
        from pytest_nlam_compat.diagnosis.explain import explain

        def by_newer() -> Diagnosis | None:
            newer = self._newer(subject)
            if newer is None:
                return None
            return self._why(newer, "outputs")

        return explain(subject, check, by_newer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the code under test logs about each model that is tried."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
