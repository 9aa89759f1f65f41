"""Where in the current code a class is."""

from __future__ import annotations

import inspect
from pathlib import Path

from torch import nn


def source_of(cls: type) -> str:
    """Return file and line of a class, of its ``forward`` if it has one.

    Parameters
    ----------
    cls : type

    Returns
    -------
    str
        ``neural_lam/gnn_layers.py:97``, relative to the importable folder;
        the name of the module where there is no source.
    """
    target = vars(cls).get("forward", cls)
    try:
        file = Path(inspect.getsourcefile(target) or "")
        line = inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return cls.__module__
    package = cls.__module__.partition(".")[0]
    parts = file.parts
    if package in parts:
        last = len(parts) - 1 - parts[::-1].index(package)
        file = Path(*parts[last:])
    return f"{file.as_posix()}:{line}"


def owner(predictor: nn.Module, name: str, package: str) -> tuple[str, type]:
    """Find the innermost module of the current code that holds a module.

    Parameters
    ----------
    predictor : torch.nn.Module
    name : str
        Of a submodule; empty for the predictor itself.
    package : str
        Top package of the current code.

    Returns
    -------
    (str, type)
        Its name, readable for the predictor itself, and its class.
    """
    segments = name.split(".") if name else []
    for length in range(len(segments), 0, -1):
        path = ".".join(segments[:length])
        module = predictor.get_submodule(path)
        if type(module).__module__.partition(".")[0] == package:
            return path, type(module)
    return "the step predictor", type(predictor)


def defining(cls: type, method: str = "forward") -> type:
    """Return the class in the method resolution order that has a method."""
    for candidate in cls.__mro__:
        if method in vars(candidate):
            return candidate
    return cls
