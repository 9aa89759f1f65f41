"""What may let the current code build a model of an older run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.adapters.model_arguments import ACCEPTED, UNUSED
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    DropHyperParameter,
    Operation,
    RenameHyperParameter,
)
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    hyper_parameter,
)
from pytest_nlam_compat.migrations.operations.trees import attributes

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_NO_ATTRIBUTE = re.compile(r"'Namespace' object has no attribute '(\w+)'")
_UNEXPECTED = re.compile(
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
)
# Names with less in common are not likely to be one.
_ALIKE = 0.4


def proposals_for_building(
    subject: ReferenceUnderTest, error: CompatError
) -> Iterator[tuple[Operation, ...]]:
    """Propose steps on hyper-parameters, by what building complained of.

    Parameters
    ----------
    subject : ReferenceUnderTest
    error : CompatError

    Yields
    ------
    tuple of Operation
    """
    text = str(error)
    missing = _NO_ATTRIBUTE.search(text)
    if missing:
        new = missing.group(1)
        args = hyper_parameter(subject.migrated, "args")
        for old in _alike(new, attributes(args) or {}):
            yield (RenameHyperParameter(f"args.{old}", new),)
    unexpected = _UNEXPECTED.search(text)
    if unexpected:
        cls, old = unexpected.groups()
        yield from _for_field(subject, cls, old)
    if UNUSED in error.facts:
        yield from _for_lost(subject, error)


def _for_lost(
    subject: ReferenceUnderTest, error: CompatError
) -> Iterator[tuple[Operation, ...]]:
    """Rename what the model's class does not take to what it takes now.

    No golden tells what was renamed from what was dropped: nothing is said to
    be dropped while the class takes something new.
    """
    taken = str(error.facts[ACCEPTED]).split(", ")
    for path in str(error.facts[UNUSED]).split(", "):
        parent, _, old = path.rpartition(".")
        given = subject.migrated.hyper_parameters
        inside = attributes(given[parent]) if parent else given
        new = [name for name in taken if name not in (inside or {})]
        for name in _alike(old, new) or new:
            yield (RenameHyperParameter(path, name),)
        if not new:
            yield (DropHyperParameter(path),)


def _alike(name: str, names: Any) -> list[str]:
    rated = [
        (SequenceMatcher(None, name, other, autojunk=False).ratio(), other)
        for other in names
    ]
    return [o for ratio, o in sorted(rated, reverse=True) if ratio > _ALIKE][:4]


def _for_field(
    subject: ReferenceUnderTest, cls: str, old: str
) -> Iterator[tuple[Operation, ...]]:
    """Rename or drop a field of a class of the configuration."""
    from neural_lam import config

    found = getattr(config, cls, None)
    place = _place(subject.migrated.hyper_parameters, cls, old)
    if not is_dataclass(found) or place is None:
        return
    taken = [f.name for f in fields(found)]
    inside = attributes(hyper_parameter(subject.migrated, place)) or {}
    for new in _alike(old, [n for n in taken if n not in inside]):
        yield (RenameHyperParameter(f"{place}.{old}", new),)
    yield (DropHyperParameter(f"{place}.{old}"),)


def _place(values: Any, cls: str, name: str, path: str = "") -> str | None:
    """Find the path of an object of a class that has a field."""
    inside = values if isinstance(values, dict) else attributes(values)
    for key, value in (inside or {}).items():
        here = f"{path}.{key}" if path else str(key)
        named = getattr(getattr(value, "cls", None), "name", None)
        if named == cls and name in (attributes(value) or {}):
            return here
        deeper = _place(value, cls, name, here)
        if deeper is not None:
            return deeper
    return None
