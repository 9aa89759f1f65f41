"""What neural-lam's own loader no longer loads, or loads by now."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from pytest_nlam_compat.errors import join_some

_REMEDY = (
    "People load checkpoints without this plugin: convert these files in",
    "neural-lam's own loader (nlam-compat suggest --upstream prints the code),",
    "or give them up by name and reason in the ini key nlam_compat_given_up.",
)
_UNTIL_THEN = "Until then, each file is converted by:"


def render_changes(
    passed: Iterable[tuple[str, dict[str, object]]],
    release: object,
    source: str = "",
) -> Iterator[str]:
    """Print what a green native route may hide, a few lines for each reason.

    Of each reference: its id, and the properties of the report. `release` is
    the one whose own loader the current code's is compared with, and `source`
    where the repository has its migrations; empty if nowhere that has a name.
    """
    missing: dict[str, list[str]] = {}
    given_up: dict[str, list[str]] = {}
    needless: dict[str, list[str]] = {}
    gained: list[str] = []
    for reference, properties in passed:
        reason = str(properties.get("nlam_given_up", ""))
        if reason:
            loaded = properties.get("nlam_native") == "equal"
            group = needless if loaded else given_up
            group.setdefault(reason, []).append(reference)
        elif steps := str(properties.get("nlam_native_missing", "")):
            missing.setdefault(steps, []).append(reference)
        elif "nlam_native_gained" in properties:
            gained.append(reference)
    for steps, references in missing.items():
        yield ""
        yield f"NEURAL-LAM ITSELF CAN'T LOAD {_checkpoints(references)}"
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
    count = len(references)
    return "1 checkpoint" if count == 1 else f"{count} checkpoints"
