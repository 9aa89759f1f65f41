"""Failures grouped by their cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_nlam_compat.errors import join_some

NOT_MIGRATED = frozenset({"loader", "saving"})
"""Kinds of causes in neural-lam's own loader, which no migration fixes."""

_WHY = "\n\nWhy:\n"


@dataclass
class Cause:
    """Why checks failed.

    Attributes
    ----------
    key : str
        What its failures have in common.
    text : str
        One sentence, that of the failure that is explained.
    explanation : str
        The message of the first failure that is explained in full.
    source : str
        The line of the current code that it names.
    suggestions : tuple of str
        The migrations that fix it, as Python.
    checks, references, modules : dict
        Names of the checks that failed, ids of the references, and the modules
        that differ first in some of them, in order.
    """

    key: str
    text: str
    explanation: str = ""
    source: str = ""
    suggestions: tuple[str, ...] = ()
    migrated: bool = True  # whether a migration may fix it
    failures: int = 0
    checks: dict[str, None] = field(default_factory=dict)
    references: dict[str, None] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """One failed check: its id, its message, the properties of its report."""

    check: str
    reference: str
    message: str
    properties: Mapping[str, object]
    suggestions: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        """The cause that was found, or else the first line of the message."""
        first = self.message.strip().partition("\n")[0]
        return str(
            self.properties.get("nlam_cause")
            or first.removeprefix(f"{self.reference}: ")
        )

    @property
    def key(self) -> str:
        """What failures of one cause have in common."""
        return str(self.properties.get("nlam_cause_key") or self.cause)


def group(failures: Iterable[Failure]) -> list[Cause]:
    """Group failures by their cause, that of most failures first."""
    causes: dict[str, Cause] = {}
    for failure in failures:
        migrated = failure.properties.get("nlam_cause_kind") not in NOT_MIGRATED
        cause = causes.setdefault(
            failure.key, Cause(failure.key, failure.cause, migrated=migrated)
        )
        cause.failures += 1
        cause.checks[failure.check] = None
        cause.references[failure.reference] = None
        full = _WHY in failure.message and _WHY not in cause.explanation
        if full or not cause.explanation:
            cause.explanation, cause.text = failure.message, failure.cause
            cause.suggestions = failure.suggestions
            source = failure.properties.get("nlam_cause_source", "")
            cause.source = str(source)
        module = failure.properties.get("nlam_cause_module")
        if module:
            cause.modules[str(module)] = None
    return sorted(causes.values(), key=lambda c: c.failures, reverse=True)


def render(causes: Iterable[Cause]) -> Iterator[str]:
    """Print causes, each with its facts and the fix if there is one."""
    for cause in causes:
        yield ""
        count = len(cause.references)
        references = "1 reference" if count == 1 else f"{count} references"
        yield f"FAILED nlam-compat: {cause.text}, {references}"
        yield f"  in {join_some(cause.references, most=3)}"
        yield f"  checks: {', '.join(cause.checks)}"
        if len(cause.modules) > 1:
            yield f"  modules: {join_some(cause.modules, most=4)}"
        yield from explained(cause)


def explained(cause: Cause) -> Iterator[str]:
    """Yield what the message says besides the cause."""
    message, _, why = cause.explanation.partition(_WHY)
    lines = (why or message.partition("\n")[2]).strip("\n").splitlines()
    for line in lines:
        if not line.startswith(("  cause: ", "Same cause as ")):
            yield f"  {line}".rstrip()
