"""The results of a run as Markdown, for a step's summary or a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pytest_nlam_compat.reports.causes import headline, where
from pytest_nlam_compat.reports.matrix import reasons
from pytest_nlam_compat.reports.results import (
    FAILED,
    CauseResult,
    Results,
    all_checks,
    matrix_of,
    passed,
    percent_of,
    verdict,
)

# What Markdown or GitHub reads as more than text: an entity never is.
_SPECIAL = re.compile(r"[&<>|*_`\[\]#@!~\\$]")
_LEGEND = (
    "Native route / migrated route: ok, no = does not load or run, - = was "
    "not run, wrong = other outputs and no error; in capitals if it fails; "
    "%: of the tolerance."
)


def markdown(results: Results) -> str:
    """Return the report as Markdown; its first line says the verdict."""
    return "\n".join(f"{block}\n" for block in _blocks(results))


def _blocks(results: Results) -> Iterator[str]:
    sign = "✅" if passed(results) else "❌"
    yield f"## {sign} neural-lam checkpoints: {_text(verdict(results))}"
    if results["incomplete"]:
        yield _fenced(results["incomplete"])
    current = results["current"]
    if current:
        commit = current.get("commit", "")[:10]
        changed = current.get("uncommitted changes")
        extra = " with uncommitted changes" if changed else ""
        at = f", commit {commit}{extra}" if commit else ""
        yield _text(
            f"neural-lam {current['release']} (version {current['version']}"
            f"{at}), torch {results['settings'].get('torch', '?')} on "
            f"{results['settings'].get('device', '?')}"
        )
    for cause in results["causes"]:
        yield from _cause(cause)
    if results["references"]:
        yield _matrix(results)
        yield _LEGEND
    yield from map(_text, reasons(matrix_of(results)))
    failed = [c for c in all_checks(results) if c["outcome"] in FAILED]
    if failed:
        yield "### Failed checks"
        rows = [
            (
                check["id"].rpartition("::")[2],
                check["outcome"],
                ", ".join(
                    f"{name}: {percent_of(share)}"
                    for name, share in check["shares"].items()
                ),
                check["message"].partition("\n")[0],
            )
            for check in failed
        ]
        titles = ("Check", "Outcome", "Share of the tolerance", "Message")
        yield _table(titles, rows)
    for title in ("current", "settings", "selected", "plugin"):
        facts: dict[str, str] = results[title]
        if facts:
            body = _table(("What", "Value"), facts.items())
            yield _details(_TITLES[title], body)


_TITLES = {
    "current": "Current code",
    "settings": "How models were run",
    "selected": "What was selected",
    "plugin": "Plugin and references",
}


def _cause(cause: CauseResult) -> Iterator[str]:
    yield f"### {_text(headline(cause))}"
    yield _fenced("\n".join([*where(cause), cause["explanation"]]))


def _matrix(results: Results) -> str:
    cells = matrix_of(results)
    releases = sorted({release for release, _ in cells})
    rows = [
        (case, *(str(cells.get((release, case), "")) for release in releases))
        for case in sorted({case for _, case in cells})
    ]
    return _table(("Case", *map(str, releases)), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles)]
    text = [f"| {' | '.join(line)} |" for line in lines]
    text += [f"| {' | '.join(map(_text, row))} |" for row in rows]
    return "\n".join(text)


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    line = " ".join(text.split())
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", line)


def _fenced(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
