"""Operations that may fix what a diagnosis found; none is verified."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import nn

from pytest_nlam_compat.adapters.model_arguments import (
    ACCEPTED,
    UNUSED,
    config_class,
)
from pytest_nlam_compat.adapters.probe import command_line_arguments
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef
from pytest_nlam_compat.diagnosis.column_blocks import by_blocks
from pytest_nlam_compat.diagnosis.diagnosis import Diagnosis
from pytest_nlam_compat.diagnosis.module_names import predictor_prefix
from pytest_nlam_compat.diagnosis.name_patterns import (
    Operations,
    exchange,
)
from pytest_nlam_compat.diagnosis.parameter_matching import (
    ParameterChange,
    match_parameters,
)
from pytest_nlam_compat.diagnosis.tensor_changes import ColumnChange
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import SavedRun
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.operations.hyper_parameters import (
    attributes,
    hyper_parameter,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_NO_ATTRIBUTE = re.compile(r"'Namespace' object has no attribute '(\w+)'")
_UNEXPECTED = re.compile(
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
)
_READ_FROM_ARGS = re.compile(r"args(?:\.|,\s*[\"'])(\w+)")
_DEFAULT_OF_ARGUMENT = re.compile(
    r"getattr\(\s*(?:\w+\.)*args,\s*[\"'](\w+)[\"'],\s*[\"'](\w+)[\"']"
)
# Names with less in common are not likely to be one.
_SIMILAR = 0.4
_MOST_NAMES = 4


def candidates_for_outputs(
    subject: ReferenceUnderTest, model: nn.Module, found: Diagnosis
) -> Iterator[Operations]:
    """Yield operations that may fix what was found, the likeliest first."""
    prefix = predictor_prefix(subject, model)
    if found.other:
        yield exchange(f"{prefix}{found.module}", f"{prefix}{found.other}")
    if found.columns is not None and found.layer:
        yield from by_blocks(found.columns, found.layer, subject.migrated)
        yield from _for_columns(found.columns, found.layer)
    edges = found.edges
    if edges is not None and edges.file:
        if edges.row is None:
            yield (op.ReverseEdges(edges.file),)
        else:
            yield (op.ShiftNodes(edges.file, edges.row, -edges.shift),)
    if found.kind in ("class", "layer"):
        name = f"{prefix}{found.module}.weight"
        weight = subject.migrated.state_dict.get(name)
        if weight is not None and weight.dim() == 2:
            yield (op.Transpose(name),)
    yield from _for_defaults(subject, found.cause)
    if found.kind == "hyper-parameter":
        yield from _for_arguments(subject)
    if found.kind == "output":
        yield from _for_exchanged_outputs(subject.migrated, prefix)


def candidates_for_loading(
    subject: ReferenceUnderTest, wanted: dict[str, tuple[int, ...]]
) -> list[Operations]:
    """List operations that may make a run fit a model, the likeliest first."""
    given = {n: tuple(t.shape) for n, t in subject.migrated.state_dict.items()}
    changes = match_parameters(given, wanted)
    if not all(change.choices for change in changes):
        return []
    found = [_chosen(changes, 0), _chosen(changes, 1)]
    if any(change.kind == "transposed" for change in changes):
        # A square weight has the same shape either way.
        square = [
            op.Transpose(name)
            for name, shape in wanted.items()
            if len(shape) == 2 and shape[0] == shape[1]
        ]
        found.append((*found[0], *square))
    return found


def _chosen(changes: list[ParameterChange], choice: int) -> Operations:
    """Join the operations of a choice of each change, or of the last it has."""
    return tuple(
        operation
        for change in changes
        for operation in change.choices[min(choice, len(change.choices) - 1)]
    )


def _for_columns(change: ColumnChange, layer: str) -> Iterator[Operations]:
    """Change the columns of the first Linear that meets a changed input."""
    name = f"{layer}.weight"
    if change.kind == "reordered":
        for order in (change.order, *change.others):
            yield (op.PermuteInputColumns(name, order),)
    elif change.kind == "added":
        # Loading needed as many columns: zeros stand at the end already.
        spare = iter(range(max(change.order) + 1, len(change.order)))
        order = tuple(o if o >= 0 else next(spare) for o in change.order)
        yield (op.PermuteInputColumns(name, order),)
    elif change.factor is not None:
        yield (op.Scale(name, 1 / change.factor),)
    elif change.kind == "units":
        # The dataset's own statistics first: numbers fit one dataset only.
        yield (op.FoldStaticFeatures(layer, "standardised", "raw"),)
        yield (_fold(change, layer),)


def _fold(change: ColumnChange, layer: str) -> op.FoldInputs:
    """Fold the columns that changed, and no others."""
    units = zip(change.scale, change.shift, strict=True)
    changed = [i for i, unit in enumerate(units) if unit != (1.0, 0.0)]
    block = slice(changed[0], changed[-1] + 1)
    scale, shift = change.scale[block], change.shift[block]
    return op.FoldInputs(
        layer,
        tuple(1 / factor for factor in scale),
        tuple(-b / a for a, b in zip(scale, shift, strict=True)),
        start=block.start,
    )


def _for_exchanged_outputs(run: SavedRun, prefix: str) -> Iterator[Operations]:
    """Exchange the halves of the last layer: mean and standard deviation."""
    last = [n for n in run.state_dict if n.startswith(f"{prefix}output_map.")]
    biases = [n for n in last if n.endswith(".bias")]
    if not biases or run.state_dict[biases[-1]].shape[0] % 2:
        return
    operations: list[op.Operation] = []
    for name in (biases[-1].removesuffix("bias") + "weight", biases[-1]):
        one, two = f"{name}_first", f"{name}_second"
        operations += [
            op.Split(name, (one, two)),
            op.Concatenate((two, one), name),
        ]
    yield tuple(operations)


def candidates_for_building(
    subject: ReferenceUnderTest, error: CompatError
) -> Iterator[Operations]:
    """Yield operations on hyper-parameters, by why building failed."""
    text = str(error)
    missing = _NO_ATTRIBUTE.search(text)
    if missing:
        new = missing.group(1)
        args = hyper_parameter(subject.migrated, "args")
        # Two names that the command line has are not one that was renamed.
        train_model = importlib.import_module("neural_lam.train_model")
        both = command_line_arguments(train_model)
        given = [
            old
            for old in attributes(args) or {}
            if not {f"--{old}", f"--{new}"} <= both
            and set(old.split("_")) & set(new.split("_"))
        ]
        for old in _similar(new, given):
            yield (op.RenameHyperParameter(f"args.{old}", new),)
    unexpected = _UNEXPECTED.search(text)
    if unexpected:
        cls, old = unexpected.groups()
        yield from _for_config_field(subject, cls, old)
    if UNUSED in error.facts:
        yield from _for_unused(subject, error)


def _for_arguments(subject: ReferenceUnderTest) -> Iterator[Operations]:
    """Yield renames of arguments to those that the current code reads."""
    args = subject.hyper_parameters.get("args")
    if args is None:
        return
    source = subject.adapter.current.path / "train_model.py"
    read = set(_READ_FROM_ARGS.findall(source.read_text(encoding="utf-8")))
    known = set(vars(args))
    for new in sorted(read - known):
        for old in _similar(new, known - read):
            yield (op.RenameHyperParameter(f"args.{old}", new),)


def _for_defaults(
    subject: ReferenceUnderTest, cause: str
) -> Iterator[Operations]:
    """Set arguments that a run lacks to what their default was.

    That one class was replaced by another may be due to a default that names
    it, as ``getattr(args, "g2m_gnn_type", "InteractionNet")``.
    """
    was, replaced, now = cause.partition(" was replaced by ")
    args = hyper_parameter(subject.migrated, "args")
    if not replaced or args is None:
        return
    given = attributes(args) or {}
    defaults: dict[str, str] = {}
    for file in sorted(subject.adapter.current.path.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        defaults |= dict(_DEFAULT_OF_ARGUMENT.findall(text))
    found = tuple(
        op.SetHyperParameter(f"args.{name}", was)
        for name, default in defaults.items()
        if default == now and name not in given
    )
    if found:
        yield found


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
            yield (op.RenameHyperParameter(path, name),)
        if not new:
            yield (op.DropHyperParameter(path),)


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
        yield (op.RenameHyperParameter(f"{path}.{old}", new),)
    yield (op.DropHyperParameter(f"{path}.{old}"),)


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
    return get_close_matches(name, list(names), _MOST_NAMES, _SIMILAR)
