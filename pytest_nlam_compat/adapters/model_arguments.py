"""Hyper-parameters of a saved run as arguments of the current code."""

from __future__ import annotations

import copy
import inspect
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.errors import CompatError

if TYPE_CHECKING:
    from pytest_nlam_compat.adapters.adapter import Predictor

UNUSED = "neither accepted by the class nor read from args"
ACCEPTED = "the class accepts"
"""Labels of facts in the error of `raise_on_unused`."""

_CONFIG_MODULE = "neural_lam.config"
# Up to 0.6 everything is in ``args``, even the name of the model. A module has
# to use these.
_USED_BY_MODULE = ("loss", "lr")
# Passed besides the hyper-parameters.
_NO_HYPER_PARAMETERS = ("forecaster", "config", "datastore", "args")


def revive(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the inert stand-ins of a saved run into real objects.

    Only ``argparse.Namespace`` and dataclasses of the current code's
    ``neural_lam.config`` are made, by calling them with their fields: nothing
    is imported because a pickle names it. Raises CompatError if the current
    code lacks a class, or a class does not accept one of its fields.
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


def config_class(named: Any) -> Any:
    """Return the class of the current code's configuration, if it is one.

    A pickle can't choose what else the module holds, such as functions.
    """
    if not isinstance(named, GlobalRef) or named.module != _CONFIG_MODULE:
        return None
    from neural_lam import config

    found = getattr(config, named.name, None)
    if isinstance(found, type) and found.__module__ == _CONFIG_MODULE:
        return found
    return None


@contextmanager
def raise_on_unused(
    cls: type, hyper_parameters: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Raise if a class does not use all hyper-parameters of a run.

    Lightning's ``load_from_checkpoint`` silently drops those that a class
    does not accept: its defaults replace what the run was trained with.

    Yields those that the class accepts; call it with them in the block.
    Raises CompatError afterwards if one is neither accepted by the class nor
    read from ``args``.
    """
    parameters = inspect.signature(cls).parameters
    accepts_any = any(
        p.kind is Parameter.VAR_KEYWORD for p in parameters.values()
    )
    accepted = {
        name: value
        for name, value in hyper_parameters.items()
        if accepts_any or name in parameters
    }
    args = hyper_parameters.get("args")
    needed = {name: name for name in hyper_parameters if name != "args"}
    if args is not None and not needed:
        needed = {n: f"args.{n}" for n in _USED_BY_MODULE if hasattr(args, n)}
    with _watched(args) as read:
        yield accepted
    unused = [
        path
        for name, path in needed.items()
        if name not in accepted and name not in read
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
def _watched(args: Namespace | None) -> Iterator[set[str]]:
    """Record which attributes of ``args`` are read; __dict__ means all."""
    read: set[str] = set()
    if args is None:
        yield read
        return

    class Watched(Namespace):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

        def __deepcopy__(self, memo: dict[int, Any]) -> Namespace:
            # Lightning copies what it saves, which does not count as reading.
            values = super().__getattribute__("__dict__")
            return Namespace(**copy.deepcopy(values, memo))

    args.__class__ = Watched
    try:
        yield read
    finally:
        args.__class__ = Namespace
