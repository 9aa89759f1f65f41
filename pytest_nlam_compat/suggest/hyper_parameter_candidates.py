"""Operations that may let the current code build a model of an older run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.adapters.model_arguments import (
    ACCEPTED,
    UNUSED,
    config_class,
)
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef
from pytest_nlam_compat.diagnosis.name_patterns import Operations
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    DropHyperParameter,
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
_READ_FROM_ARGS = re.compile(r"args(?:\.|,\s*[\"'])(\w+)")
# Names with less in common are not likely to be one.
_SIMILAR = 0.4
_MOST_NAMES = 4


def candidates_for_building(
    subject: ReferenceUnderTest, error: CompatError
) -> Iterator[Operations]:
    """Yield operations on hyper-parameters, by why building failed."""
    text = str(error)
    missing = _NO_ATTRIBUTE.search(text)
    if missing:
        new = missing.group(1)
        args = hyper_parameter(subject.migrated, "args")
        for old in _similar(new, attributes(args) or {}):
            yield (RenameHyperParameter(f"args.{old}", new),)
    unexpected = _UNEXPECTED.search(text)
    if unexpected:
        cls, old = unexpected.groups()
        yield from _for_config_field(subject, cls, old)
    if UNUSED in error.facts:
        yield from _for_unused(subject, error)


def candidates_for_arguments(
    subject: ReferenceUnderTest,
) -> Iterator[Operations]:
    """Yield renames of arguments to those that the current code reads."""
    args = subject.hyper_parameters.get("args")
    if args is None:
        return
    source = subject.adapter.current.path / "train_model.py"
    read = set(_READ_FROM_ARGS.findall(source.read_text(encoding="utf-8")))
    known = set(vars(args))
    for new in sorted(read - known):
        words = set(new.split("_"))
        shared = {old: words & set(old.split("_")) for old in known - read}
        for old in sorted(shared, key=lambda name: -len(shared[name])):
            if len(shared[old]) > 1:
                yield (RenameHyperParameter(f"args.{old}", new),)


def _for_unused(
    subject: ReferenceUnderTest, error: CompatError
) -> Iterator[Operations]:
    """Rename what the model's class does not accept to what it accepts now.

    No golden distinguishes a renamed from a dropped one: nothing is dropped
    while the class accepts something new.
    """
    accepted = str(error.facts[ACCEPTED]).split(", ")
    for path in str(error.facts[UNUSED]).split(", "):
        parent, _, old = path.rpartition(".")
        given = subject.migrated.hyper_parameters
        inside = attributes(given[parent]) if parent else given
        new = [name for name in accepted if name not in (inside or {})]
        for name in _similar(old, new) or new:
            yield (RenameHyperParameter(path, name),)
        if not new:
            yield (DropHyperParameter(path),)


def _for_config_field(
    subject: ReferenceUnderTest, cls: str, old: str
) -> Iterator[Operations]:
    """Rename or drop a field of a class of the configuration."""
    found = config_class(GlobalRef("neural_lam.config", cls))
    path = _path_of_object(subject.migrated.hyper_parameters, cls, old)
    if not is_dataclass(found) or path is None:
        return
    names = [field.name for field in fields(found)]
    inside = attributes(hyper_parameter(subject.migrated, path)) or {}
    for new in _similar(old, [name for name in names if name not in inside]):
        yield (RenameHyperParameter(f"{path}.{old}", new),)
    yield (DropHyperParameter(f"{path}.{old}"),)


def _path_of_object(
    values: Any, cls: str, field: str, path: str = ""
) -> str | None:
    """Find the path of an object of a class that has a field."""
    inside = values if isinstance(values, dict) else attributes(values)
    for key, value in (inside or {}).items():
        here = f"{path}.{key}" if path else str(key)
        named = getattr(getattr(value, "cls", None), "name", None)
        if named == cls and field in (attributes(value) or {}):
            return here
        deeper = _path_of_object(value, cls, field, here)
        if deeper is not None:
            return deeper
    return None


def _similar(name: str, names: Iterable[str]) -> list[str]:
    """Return the names most like one, the likeliest first."""
    rated = [
        (SequenceMatcher(None, name, other, autojunk=False).ratio(), other)
        for other in names
    ]
    likely = [o for ratio, o in sorted(rated, reverse=True) if ratio > _SIMILAR]
    return likely[:_MOST_NAMES]
