"""What the importable neural_lam offers, as names that a probe can look for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

from pytest_nlam_compat.adapters.probe import (
    command_line_arguments,
    first_modules,
    parameters,
)


def inventory() -> list[tuple[str, str]]:
    """List modules of neural_lam with the names in each, as `has` reads them.

    Public classes, functions and constants where they are defined, methods,
    parameters, and arguments of the command line. Names of the modules that
    people train with and of the models come first: these are what stays.
    """
    package = importlib.import_module("neural_lam")
    first = tuple(first_modules())
    modules = []
    for found in pkgutil.walk_packages(package.__path__, "neural_lam."):
        # A script, or what needs a package that is not installed.
        with suppress(Exception, SystemExit):
            modules.append(importlib.import_module(found.name))
    modules.sort(key=lambda module: not module.__name__.startswith(first))
    return [(m.__name__, name) for m in modules for name in _names(m)]


def _names(module: ModuleType) -> Iterator[str]:
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (_defined_in(module, value) if callable(value) else name.isupper())
    }
    called = {name: value for name, value in own.items() if callable(value)}
    yield from own
    for name, value in called.items():
        yield from (f"{name}({parameter})" for parameter in parameters(value))
    for name, value in called.items():
        methods = vars(value) if inspect.isclass(value) else ()
        yield from (f"{name}.{one}" for one in methods if one[0] != "_")
    with suppress(OSError):
        yield from sorted(command_line_arguments(module))


def _defined_in(module: ModuleType, value: object) -> bool:
    is_one = inspect.isclass(value) or inspect.isfunction(value)
    return is_one and getattr(value, "__module__", "") == module.__name__
