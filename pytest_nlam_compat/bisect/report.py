"""The outcome of a bisect, and its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from pytest_nlam_compat.bisect.classify import CommitGrades
from pytest_nlam_compat.bisect.git import Clone
from pytest_nlam_compat.reports import causes

_SHOWN = 6


@dataclass(frozen=True)
class BisectOutcome:
    """What a bisect has found.

    Attributes
    ----------
    candidates : tuple of str
        Hash of the first bad commit or, if commits next to it can't be
        checked, of all that it can be, the newest first.
    verdicts, skip_reasons : mapping of str to str
        By hash, besides those of the endpoints.
    grades : CommitGrades
        At the first bad commit, with causes.
    """

    candidates: tuple[str, ...]
    verdicts: Mapping[str, str]
    skip_reasons: Mapping[str, str]
    grades: CommitGrades


def report(clone: Clone, outcome: BisectOutcome) -> Iterator[str]:
    """Yield lines: which commit it was, and what it broke."""
    yield ""
    if len(outcome.candidates) == 1:
        yield from _first_bad_commit(clone, outcome)
    else:
        yield "Not found: only commits that can't be checked are left."
        yield "The first bad commit is one of"
        for commit in outcome.candidates:
            reason = outcome.skip_reasons.get(commit)
            yield f"  {clone.title(commit)}" + (f": {reason}" if reason else "")
    words = list(outcome.verdicts.values())
    yield (
        f"Checked besides --good and --bad: {len(words)}, of which skipped: "
        f"{words.count('skip')}"
    )


def _first_bad_commit(clone: Clone, outcome: BisectOutcome) -> Iterator[str]:
    (first,) = outcome.candidates
    yield "The first bad commit:"
    form = "commit: %H%nauthor: %an <%ae>%ndate: %ad%nsubject: %s"
    said = clone.git("log", "-1", "--date=iso", f"--format={form}", first)
    yield from (f"  {line}" for line in said.splitlines())
    parents = clone.parents(first)
    if len(parents) > 1:
        yield f"  merges: {', '.join(map(clone.title, parents))}"
    for parent in parents:
        if outcome.verdicts.get(parent) == "skip":
            yield f"  its parent can't be checked: {clone.title(parent)}"
    yield f"What failed there: {summary(outcome.grades.failed)}"
    if outcome.grades.broken:
        yield f"  not all was checked: {outcome.grades.broken}"
    failures: list[tuple[str, dict[str, object]]] = [
        (
            name.partition("[")[2].removesuffix("]"),
            {f"nlam_{label}": value for label, value in found.items()},
        )
        for name, found in outcome.grades.failed.items()
    ]
    yield from causes.render(causes.group(failures))
    yield ""


def summary(names: Iterable[str]) -> str:
    """Group checks by their references, for one line.

    Examples
    --------
    >>> summary(["outputs[0.7.0-graph_lam]", "loss[0.7.0-graph_lam]"])
    '0.7.0-graph_lam (outputs, loss)'
    """
    grouped: dict[str, list[str]] = {}
    for name in names:
        check, _, reference = name.removesuffix("]").partition("[")
        grouped.setdefault(reference, []).append(check)
    parts = [f"{ref} ({', '.join(found)})" for ref, found in grouped.items()]
    rest = len(parts) - _SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(parts[:_SHOWN]) + more


tell = partial(print, flush=True)
"""Print a line at once, also into a pipe."""
