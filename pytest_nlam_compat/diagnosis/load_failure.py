"""Why a migrated run does not fit the current model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nlam_compat.diagnosis.clamping import BUFFERS
from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.linear_changes import Shapes
from pytest_nlam_compat.diagnosis.module_names import names_through
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.diagnosis.parameter_matching import (
    ParameterChange,
    facts_by_kind,
    match_parameters,
)
from pytest_nlam_compat.errors import join_some
from pytest_nlam_compat.migrations.releases import PREFIX
from pytest_nlam_compat.under_test.source_lines import BuildLines

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

# Changes that a headline names, and lines of the current code.
_SHOWN = 3


def explain_load_failure(
    subject: ReferenceUnderTest, wanted: Shapes, known: Operations = ()
) -> Diagnosis | None:
    """Explain tensors that don't fit by what happened to them.

    `wanted` are the tensors of the current model, `known` operations that are
    proved: what they rename is no guess.
    """
    run = subject.migrated
    given = {n: tuple(t.shape) for n, t in run.state_dict.items()}
    line = _changed_lines(subject.build_lines, given, wanted)
    limits = _limits(given, wanted)
    if limits is not None:
        return replace(limits, line=line)
    renamed = {o: n for o, n in names_through(run, known).items() if o != n}
    changes = match_parameters(given, wanted, renamed)
    if not changes:
        return None
    return Diagnosis(
        "loading",
        headline(changes),
        line=line,
        details=facts_by_kind(changes),
    )


def _limits(given: Shapes, wanted: Shapes) -> Diagnosis | None:
    """Explain buffers of clamping that have other lengths, and nothing else."""
    changed = [n for n in {**given, **wanted} if given.get(n) != wanted.get(n)]
    if not changed or not all(
        name in given and name in wanted and name.rpartition(".")[2] in BUFFERS
        for name in changed
    ):
        return None

    def lengths(shapes: Shapes) -> str:
        return ", ".join(
            f"{n.replace(PREFIX, '')} {shapes[n]}" for n in changed
        )

    return Diagnosis(
        "clamping",
        "the model has other limits of clamping than the checkpoint",
        details={"in the checkpoint": lengths(given), "now": lengths(wanted)},
    )


def headline(changes: Sequence[ParameterChange]) -> str:
    """Say what happened in few words: the first names of each kind."""
    texts: dict[str, dict[str, None]] = {}
    for change in changes:
        texts.setdefault(change.kind, {})[_brief(change.text)] = None
    return "; ".join(
        f"{kind} {join_some(found, _SHOWN)}" for kind, found in texts.items()
    )


def _brief(text: str) -> str:
    """Leave out widths, counts, and what many renamed modules are part of."""
    text = text.partition(" (")[0].partition(" has ")[0].replace(PREFIX, "")
    old, arrow, new = text.partition(" -> ")
    was, now = old.split("."), new.split(".")
    within = arrow and "*" in old and was[:-1] == now[:-1]
    if within and not was[-1].isdigit():
        return f"{was[-1]} -> {now[-1]}"
    return text


def _changed_lines(lines: BuildLines, given: Shapes, wanted: Shapes) -> str:
    """Name the lines that name what is new, or held what is gone."""
    known = {
        ".".join(parts[:depth])
        for parts in (name.split(".") for name in given)
        for depth in range(1, len(parts) + 1)
    }
    changed = [n for n, shape in wanted.items() if given.get(n) != shape]
    names: Iterable[str] = changed or given.keys() - wanted.keys()
    found = dict.fromkeys(lines.of_name(name, known) for name in names)
    return ", ".join(line for line in list(found)[:_SHOWN] if line)
