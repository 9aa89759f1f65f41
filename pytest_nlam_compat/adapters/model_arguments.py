"""Hyper-parameters of a saved run as arguments of the current code."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, is_dataclass
from enum import Enum
from inspect import Parameter
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from unittest import mock

from pytest_nlam_compat.adapters.binding import parameters_of
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.adapters.adapter import Predictor

UNUSED = "neither accepted by the class nor read from args"
ACCEPTED = "the class accepts"
"""Labels of facts in the error of `raise_on_unused`."""

_CONFIG_MODULE = "neural_lam.config"
# They copy, save and load ``args`` without using them.
_NO_READERS = {"copy", "copyreg", "lightning", "lightning_fabric"}
_NO_READERS |= {"pickle", "pytest_nlam_compat", "pytorch_lightning", "torch"}
# Up to 0.6 everything is in ``args``, even the name of the model. A module has
# to use these.
_USED_BY_MODULE = ("loss", "lr")
# Of what a configuration file holds, by its key.
_CONFIG_CLASSES = {
    "": "NeuralLAMConfig",
    "datastore": "DatastoreSelection",
    "training": "TrainingConfig",
    "output_clamping": "OutputClamping",
}
_UNIONS = (Union, UnionType)
_ALIKE = ((int, float), (str, Enum))
# Passed besides the hyper-parameters.
_NO_HYPER_PARAMETERS = ("forecaster", "config", "datastore", "args")


def revive(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the inert stand-ins of a saved run into real objects.

    Only ``argparse.Namespace`` and dataclasses of the current code are made,
    with their fields: nothing is imported because a pickle names it.
    Raises CompatError if the current code lacks a class, or a class does not
    accept one of its fields.
    """
    return {name: _revive(value) for name, value in hyper_parameters.items()}


def forcing_window(
    hyper_parameters: Mapping[str, Any], predictor: Predictor | None
) -> Namespace:
    """Return a namespace with ``num_{past,future}_forcing_steps``."""
    args = hyper_parameters.get("args")
    if args is not None:
        return args  # type: ignore[no-any-return]
    assert predictor is not None
    return Namespace(**predictor.arguments)


def _revive(value: Any) -> Any:
    if isinstance(value, InertObject):
        return _object(value)
    if isinstance(value, dict):
        return {key: _revive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_revive(item) for item in value)
    return value


def _object(value: InertObject) -> Any:
    fields = {
        name: _revive(item) for name, item in dict(value.state or {}).items()
    }
    named = value.cls
    if isinstance(named, GlobalRef) and named.path == "argparse.Namespace":
        return Namespace(**fields)
    cls = config_class(named)
    if cls is None:
        raise CompatError(
            "The hyper-parameters name a class that the current code lacks.",
            facts={"class": getattr(named, "path", named)},
            remedy="Add a migration that replaces it, as "
            "`UnwrapClass(...)` for neural-lam 0.5.0 does.",
        )
    try:
        _raise_on_type(cls, fields)
        if is_dataclass(cls) and not value.args:
            return _restored(cls, fields)
        return cls(*(_revive(item) for item in value.args), **fields)
    except TypeError as cause:
        raise CompatError(
            f"{_CONFIG_MODULE}.{cls.__name__} of the current code does not "
            "accept the fields of the checkpoint.",
            facts={
                "fields": ", ".join(sorted(fields)),
                "cause": f"TypeError: {cause}",
            },
            remedy="Add a migration that renames, drops or sets the field.",
        ) from cause


def _restored(cls: Any, values: Mapping[str, Any]) -> Any:
    """Make an object as unpickling does, without ``__init__``.

    What is not declared any more is an error, as its default would replace it;
    but for where the data are, since no model is built from that.
    """
    declared = {each.name: each for each in dataclasses.fields(cls)}
    for name in sorted(values.keys() - declared.keys() - {"datastore"}):
        raise TypeError(
            f"{cls.__name__}.__init__() got an unexpected keyword argument "
            f"{name!r}"
        )
    made = cls.__new__(cls)
    for name, each in declared.items():
        default = each.default_factory
        if name not in values and default is not MISSING:
            one = _restored(default, {}) if is_dataclass(default) else default()
            object.__setattr__(made, name, one)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def config_from_data(data: Mapping[str, Any]) -> Any:
    """Make a configuration of what its file holds, without reading the file.

    The current code may ask for other keys, which people write anew.
    """

    def stored(name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        inside = {key: stored(key, item) for key, item in value.items()}
        cls = inside.pop("__config_class__", _CONFIG_CLASSES.get(name))
        if cls is None:
            return inside
        return InertObject(GlobalRef(_CONFIG_MODULE, cls), state=inside)

    return _revive(stored("", data))


def _raise_on_type(cls: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError if a value is of no class that a field is declared as.

    Numbers may take each other's place, and so may kinds of text.
    """
    declared = get_type_hints(cls) if is_dataclass(cls) else {}
    for name in values.keys() & declared.keys():
        value, kind = values[name], declared[name]
        kinds = get_args(kind) if get_origin(kind) in _UNIONS else (kind,)
        classes = [get_origin(one) or one for one in kinds]
        alike = [group for group in _ALIKE if isinstance(value, group)]
        if not any(
            not isinstance(one, type)
            or isinstance(value, one)
            or any(issubclass(one, group) for group in alike)
            for one in classes
        ):
            raise TypeError(
                f"{name} is declared as {kind}, and is a {type(value).__name__}"
            )


def config_class(named: Any) -> Any:
    """Return the class of the current code's configuration, if it is one.

    It may be defined anywhere in neural_lam, and be re-exported under the name
    in the pickle. What else a pickle can name, such as functions and models,
    is none; nor is a module imported because a pickle names it.
    """
    if not isinstance(named, GlobalRef) or not _in_neural_lam(named.module):
        return None
    importlib.import_module(_CONFIG_MODULE)
    found: Any = sys.modules.get(named.module)
    for name in named.name.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    if not isinstance(found, type) or not _in_neural_lam(found.__module__):
        return None
    # 0.4 has a kind of text.
    is_data = is_dataclass(found) or issubclass(found, Enum | Namespace | str)
    return found if is_data else None


def _in_neural_lam(module: str) -> bool:
    return module.partition(".")[0] == "neural_lam"


@contextmanager
def raise_on_unused(
    cls: type,
    hyper_parameters: Mapping[str, Any],
    used: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Raise if a class does not use all hyper-parameters of a run.

    Lightning's ``load_from_checkpoint`` silently drops those that a class
    does not accept: its defaults replace what the run was trained with.

    Yields those that the class accepts; call it with them in the block.
    Raises CompatError afterwards if one is neither accepted by the class, nor
    read from ``args``, nor `used` elsewhere.
    """
    parameters = {p.name: p.kind for p in parameters_of(cls)}
    accepts_any = Parameter.VAR_KEYWORD in parameters.values()
    accepted = {
        name: value
        for name, value in hyper_parameters.items()
        if accepts_any or name in parameters
    }
    args = hyper_parameters.get("args")
    passed = ("args", "config")
    needed = {name: name for name in hyper_parameters if name not in passed}
    if args is not None and not needed:
        needed = {n: f"args.{n}" for n in _USED_BY_MODULE if hasattr(args, n)}
    with reads_of_args(args) as read:
        yield accepted
    unused = [
        path
        for name, path in needed.items()
        if name not in accepted and name not in read and name not in used
    ]
    if unused and "__dict__" not in read:
        names = [n for n in parameters if n not in _NO_HYPER_PARAMETERS]
        raise CompatError(
            f"{cls.__name__} of the current code does not use all "
            "hyper-parameters of the run: defaults would replace them.",
            facts={UNUSED: ", ".join(unused), ACCEPTED: ", ".join(names)},
            remedy="Accept them as before, or add a migration for each: "
            "RenameHyperParameter or DropHyperParameter.",
        )


@contextmanager
def reads_of_args(args: Namespace | None) -> Iterator[set[str]]:
    """Record which attributes of any ``args`` are read; __dict__ means all."""
    read: set[str] = set()
    if args is None:
        yield read
        return

    def watched(self: Namespace, name: str) -> Any:
        # Copied or pickled is not read.
        by = sys._getframe(1).f_globals.get("__name__", "")
        if by.partition(".")[0] not in _NO_READERS:
            read.add(name)
        return object.__getattribute__(self, name)

    with mock.patch.object(Namespace, "__getattribute__", watched, create=True):
        yield read
