"""What a bisect found, in words."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_nlam_compat.bisect.bisect import Found
from pytest_nlam_compat.bisect.clone import Clone
from pytest_nlam_compat.bisect.wording import count, summary
from pytest_nlam_compat.reports import causes


def report(clone: Clone, found: Found) -> Iterator[str]:
    """Lay out which commit it was, and what it changed.

    Parameters
    ----------
    clone : Clone
    found : Found

    Yields
    ------
    str
        Lines.
    """
    yield ""
    if found.first is None:
        yield from _range(clone, found)
    else:
        yield from _first(clone, found, found.first)
    words = [verdict.word for verdict in found.judged.values()]
    skipped = words.count("skip")
    tried = count(len(words), "commit")
    yield f"Tried: {tried} besides --good and --bad, {skipped} skipped."


def _first(clone: Clone, found: Found, first: str) -> Iterator[str]:
    yield "The first commit that changed the meaning:"
    form = "commit: %H%nauthor: %an <%ae>%ndate: %ad%nsubject: %s"
    said = clone.git("log", "-1", "--date=iso", f"--format={form}", first)
    yield from (f"  {line}" for line in said.splitlines())
    parents = clone.parents(first)
    if len(parents) > 1:
        yield f"  merges: {', '.join(map(clone.title, parents))}"
    for parent in found.unsure:
        yield f"  can't tell of its parent: {clone.title(parent)}"
    assert found.examined is not None
    failed = found.examined.failed
    yield f"What failed there: {summary(failed)}"
    grouped = causes.group(
        (name.rpartition("[")[2].removesuffix("]"), properties)
        for name, properties in failed.items()
    )
    yield from causes.render(grouped)
    yield ""


def _range(clone: Clone, found: Found) -> Iterator[str]:
    yield "Not found: only commits that can't be judged are left."
    yield "The first commit that changed the meaning is one of"
    for commit in found.possible:
        verdict = found.judged.get(commit)
        why = f": {verdict.reason}" if verdict and verdict.reason else ""
        yield f"  {clone.title(commit)}{why}"
