"""Classes and functions of the current code, found by what they are for."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from types import ModuleType
from typing import Any

from torch import nn

from pytest_nlam_compat.adapters.binding import match
from pytest_nlam_compat.adapters.probe import first_modules


def in_neural_lam(named: Any) -> bool:
    """Return whether a class or function is defined in neural_lam."""
    module = getattr(named, "__module__", None) or ""
    return str(module).partition(".")[0] == "neural_lam"


def namespaces() -> Iterator[ModuleType]:
    """Yield the modules of the current code, those that people use first."""
    first = first_modules()
    for name in first:
        yield importlib.import_module(name)
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "neural_lam" and name not in first:
            yield module


def find(
    known_as: str,
    fits: Callable[[Any], bool],
    prefer: Callable[[Any], bool] = bool,
) -> Any:
    """Return what fits in the first namespace that has any; None if none has.

    Of several, one to `prefer`, and the one whose name is most like the one
    that it was `known_as`.
    """

    def rank(value: Any) -> tuple[bool, float]:
        alike = SequenceMatcher(None, value.__name__, known_as).ratio()
        return prefer(value), alike

    for module in namespaces():
        fitting = [
            value
            for name, value in vars(module).items()
            if (in_neural_lam(value) or name == known_as) and fits(value)
        ]
        if fitting:
            return max(fitting, key=rank)
    return None


def class_of(name: str) -> Any:
    """Return a class of models by its name, None if there is none."""
    return find(name, lambda v: is_class(v, nn.Module) and v.__name__ == name)


def is_class(value: Any, base: type) -> bool:
    """Return whether a value is a class with objects of its own."""
    return (
        isinstance(value, type)
        and issubclass(value, base)
        and not inspect.isabstract(value)
    )


def registry(model: str) -> Mapping[str, type]:
    """Return the dict that maps names of models to classes, or an empty one."""
    for module in namespaces():
        for value in vars(module).values():
            if (
                isinstance(value, Mapping)
                and isinstance(value.get(model), type)
                and issubclass(value[model], nn.Module)
            ):
                return value
    return {}


def wrapper(
    known_as: str,
    role: str,
    base: type,
    objects: Mapping[str, Any],
    values: Mapping[str, Any],
) -> Any:
    """Return the class that wraps one of the objects; None if there is none.

    One that can be called with what is known, if any.

    It is derived from `base`, had the name `known_as` in neural-lam 0.7, and
    takes the object that `objects` has under `role`; see `bind`.
    """

    def wraps(value: Any) -> bool:
        if not is_class(value, base) or isinstance(objects[role], value):
            return False
        bound, _ = match(value, objects, values)
        return any(each is objects[role] for each in bound.values())

    def is_complete(value: Any) -> bool:
        return not match(value, objects, values)[1]

    return find(known_as, wraps, is_complete)


def checkpoint_loader(known_as: str, base: type) -> Any:
    """Return neural-lam's own loader: a function, or a method of a class.

    It loads, by its name, takes a checkpoint, by its name or arguments, and
    is not Lightning's. None if there is none.
    """

    def fits(value: Any) -> bool:
        name = getattr(value, "__name__", "")
        loads = any(word in name for word in ("load", "from_", "restore"))
        if not loads or inspect.isclass(value) or not callable(value):
            return False
        words = [name, *inspect.signature(value).parameters]
        return any("checkpoint" in w or "ckpt" in w for w in words)

    found = find(known_as, fits)
    if found is not None:
        return found
    for module in namespaces():
        for cls in vars(module).values():
            if not is_class(cls, base) or not in_neural_lam(cls):
                continue
            for name in dir(cls):
                if isinstance(
                    inspect.getattr_static(cls, name),
                    classmethod | staticmethod,
                ):
                    method = getattr(cls, name)
                    if in_neural_lam(method) and fits(method):
                        return method
    return None
