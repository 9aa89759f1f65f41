"""Failures grouped by their cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pytest_nlam_compat.errors import join_some

NOT_MIGRATED = frozenset({"loader", "saving"})
"""Kinds of causes in neural-lam's own loader, which no migration fixes."""


@dataclass
class Cause:
    """Why checks failed, with the ids of their references in order."""

    text: str
    source: str
    migrated: bool = True  # whether a migration may fix it
    failures: int = 0
    references: dict[str, None] = field(default_factory=dict)


def group(failed: Iterable[tuple[str, dict[str, object]]]) -> list[Cause]:
    """Group failed checks by their cause, that of most failures first.

    Of each: the id of its reference, and the properties of its report.
    """
    causes: dict[str, Cause] = {}
    for reference, properties in failed:
        text = properties.get("nlam_cause")
        if text is None:
            continue
        source = str(properties.get("nlam_cause_source", ""))
        migrated = properties.get("nlam_cause_kind") not in NOT_MIGRATED
        cause = causes.setdefault(str(text), Cause(str(text), source, migrated))
        cause.failures += 1
        cause.references[reference] = None
    return sorted(causes.values(), key=lambda c: c.failures, reverse=True)


def render(causes: Iterable[Cause]) -> Iterator[str]:
    """Print causes, a few lines each."""
    found = list(causes)
    if not found:
        return
    yield ""
    number = len(found)
    yield "1 cause" if number == 1 else f"{number} causes"
    for cause in found:
        count = cause.failures
        failures = "1 failure" if count == 1 else f"{count} failures"
        yield f"  {failures}: {cause.text}"
        if cause.source:
            yield f"    at {cause.source}"
        yield f"    in {join_some(cause.references, most=6)}"
    if any(cause.migrated for cause in found):
        yield "  nlam-compat suggest searches for a migration that fixes it"
