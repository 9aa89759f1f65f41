"""Failures grouped by their cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_nlam_compat.errors import counted, join_some
from pytest_nlam_compat.reports.results import CauseResult

NOT_MIGRATED = frozenset({"loader", "saving"})
"""Kinds of causes in neural-lam's own loader, which no migration fixes."""

_WHY = "\n\nWhy:\n"


@dataclass(frozen=True)
class Failure:
    """One failed check: its id, its message, the properties of its report.

    `reference` is empty for a check of the migrations themselves.
    """

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
            or first.removeprefix(f"{self.reference}: ").removesuffix(".")
        )

    @property
    def key(self) -> str:
        """What failures of one cause have in common."""
        return str(self.properties.get("nlam_cause_key") or self.cause)


def group(failures: Iterable[Failure]) -> list[CauseResult]:
    """Group failures by their cause, that of most failures first."""
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        groups.setdefault(failure.key, []).append(failure)
    causes = [_cause(key, found) for key, found in groups.items()]
    return sorted(causes, key=lambda cause: cause["failures"], reverse=True)


def _cause(key: str, failures: Sequence[Failure]) -> CauseResult:
    # The first one that is explained in full.
    shown = max(failures, key=lambda f: (_WHY in f.message, bool(f.message)))
    properties = [failure.properties for failure in failures]
    references = dict.fromkeys(f.reference for f in failures if f.reference)
    kind = properties[0].get("nlam_cause_kind")
    modules = [each.get("nlam_cause_module") for each in properties]
    return CauseResult(
        key=key,
        text=shown.cause,
        explanation="\n".join(_explained(shown.message)),
        source=str(shown.properties.get("nlam_cause_source", "")),
        migrated=bool(references) and kind not in NOT_MIGRATED,
        suggestion=list(shown.suggestions),
        checks=list(dict.fromkeys(f.check for f in failures)),
        references=list(references),
        modules=list(dict.fromkeys(str(each) for each in modules if each)),
        failures=len(failures),
    )


def render(causes: Iterable[CauseResult]) -> Iterator[str]:
    """Print causes, each with its facts and the fix if there is one."""
    for cause in causes:
        yield ""
        yield f"FAILED nlam-compat: {headline(cause)}"
        lines = [*where(cause), *cause["explanation"].splitlines()]
        yield from (f"  {line}".rstrip() for line in lines)


def headline(cause: CauseResult) -> str:
    """Return a cause and how many references fail by it."""
    count = len(cause["references"])
    return cause["text"] + (f", {counted(count, 'reference')}" if count else "")


def where(cause: CauseResult) -> Iterator[str]:
    """Name the references, the checks and the modules of a cause."""
    if cause["references"]:
        yield f"in {join_some(cause['references'], most=3)}"
    yield f"checks: {', '.join(cause['checks'])}"
    if len(cause["modules"]) > 1:
        yield f"modules: {join_some(cause['modules'], most=4)}"


def _explained(text: str) -> Iterator[str]:
    """Yield what a message says besides the cause."""
    message, _, why = text.partition(_WHY)
    lines = (why or message.partition("\n")[2]).strip("\n").splitlines()
    for line in lines:
        if not line.startswith(("  cause: ", "Same cause as ")):
            yield line
