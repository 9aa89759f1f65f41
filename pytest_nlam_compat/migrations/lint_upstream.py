"""Checks of neural-lam's own registry of migrations (#701).

Its steps have a number each, and all above the number in a file are applied:
of two with one number, or of one numbered too low, a file can miss one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.migrations.lint_functions import (
    Finding,
    check_function,
)

if TYPE_CHECKING:
    from torch import Tensor


def check_numbers(migrations: Sequence[Any], newest: int) -> list[Finding]:
    """Check what can be seen without a file.

    Parameters
    ----------
    migrations : sequence
        With ``target_version`` and ``description``.
    newest : int
        Number that new files get.

    Returns
    -------
    list of Finding
    """
    counts = Counter(one.target_version for one in migrations)
    findings = [
        Finding(_name(one), "Another step has the same number.")
        for one in migrations
        if counts[one.target_version] > 1
    ]
    findings += [
        Finding(_name(one), f"Stands after number {before.target_version}.")
        for before, one in pairwise(migrations)
        if one.target_version < before.target_version
    ]
    findings += [
        Finding(_name(one), f"New files are numbered {newest} only.")
        for one in migrations
        if one.target_version > newest
    ]
    return findings


def check_on_file(
    migrations: Iterable[Any], stamp: int, state_dict: Mapping[str, Tensor]
) -> list[Finding]:
    """Check each step on the weights of a file, as its turn comes.

    Parameters
    ----------
    migrations : iterable
        With ``target_version``, ``description`` and ``apply``.
    stamp : int
        Number of the file, 0 where it has none.
    state_dict : mapping of str to Tensor

    Returns
    -------
    list of Finding
    """
    return list(_on_file(migrations, stamp, dict(state_dict)))


def _on_file(
    migrations: Iterable[Any], stamp: int, weights: dict[str, Tensor]
) -> Iterator[Finding]:
    for one in sorted(migrations, key=lambda step: int(step.target_version)):
        if one.target_version <= stamp:
            continue
        if one.apply is None:
            # A hard break: its loader goes no further, and nor do we.
            return
        findings = check_function(_name(one), one.apply, weights)
        yield from findings
        if any(finding.problem.startswith("Raises ") for finding in findings):
            return
        weights = one.apply(dict(weights))


def _name(one: Any) -> str:
    return f"{one.target_version} ({one.description})"
