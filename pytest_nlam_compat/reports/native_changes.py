"""What neural-lam's own loader no longer loads, or loads by now."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pytest_nlam_compat.errors import counted, join_some
from pytest_nlam_compat.reports.results import Results

RECORDED_ROUTES = "native route compared with"
SOURCE = "migrations from"
"""Labels of what was selected: a release, and where a repository keeps its
migrations."""

_REMEDY = (
    "People load checkpoints without this plugin: convert these files in",
    "neural-lam's own loader (nlam-compat suggest --upstream prints the code),",
    "or give them up by name and reason in the ini key nlam_compat_given_up.",
)
_UNTIL_THEN = "Until then, this converts a file, or refuses it and says why:"


def render_changes(results: Results) -> Iterator[str]:
    """Print what a green native route may hide, a few lines for each reason."""
    release = results["selected"].get(RECORDED_ROUTES, "")
    source = results["selected"].get(SOURCE, "")
    missing: dict[tuple[str, bool], list[str]] = {}
    given_up: dict[str, list[str]] = {}
    needless: dict[str, list[str]] = {}
    gained: list[str] = []
    for reference in results["references"]:
        for check in reference["checks"]:
            native, name = check["native"], reference["id"]
            if check["outcome"] != "passed":
                continue
            if reason := native.get("given up"):
                loaded = native.get("outcome") == "equal"
                group = needless if loaded else given_up
                group.setdefault(reason, []).append(name)
            elif steps := native.get("missing"):
                silent = native["outcome"] == "differs"
                missing.setdefault((steps, silent), []).append(name)
            elif "gained" in native:
                gained.append(name)
    for (steps, silent), references in missing.items():
        count = _checkpoints(references)
        yield ""
        yield (
            f"NEURAL-LAM ITSELF LOADS {count}, WITH WRONG OUTPUTS AND NO ERROR"
            if silent
            else f"NEURAL-LAM ITSELF CAN'T LOAD {count}"
        )
        yield f"  neural-lam {release} loads: {join_some(references, most=6)}"
        yield f"  They pass by migrations that only this plugin knows: {steps}"
        yield from (f"  {line}" for line in _REMEDY)
        if source:
            yield f"  {_UNTIL_THEN}"
            name = shlex.quote(source)
            yield f"    nlam-compat upgrade OLD.ckpt --migrations {name}"
    for reason, references in given_up.items():
        yield ""
        yield f"given up: {_checkpoints(references)} by {reason}"
        yield f"  in {join_some(references, most=6)}"
    for reason, references in needless.items():
        yield ""
        yield f"given up, but loaded: {_checkpoints(references)} by {reason}"
        yield f"  in {join_some(references, most=6)}"
        yield "  remove the entry from nlam_compat_given_up, or narrow it"
    if gained:
        yield ""
        yield f"gained: neural-lam's own loader loads {_checkpoints(gained)}"
        yield f"  that of neural-lam {release} does not: " + join_some(
            gained, most=6
        )


def _checkpoints(references: list[str]) -> str:
    return counted(len(references), "checkpoint")
