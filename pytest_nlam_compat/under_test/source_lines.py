"""Lines of the code under test: what runs, builds and names a module."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from torch import nn


def source_of(cls: type, method: str = "forward") -> str:
    """Return where a method, or else its class, is: ``neural_lam/a.py:97``.

    The name of its module where there is no source.
    """
    target = getattr(cls, method, cls)
    try:
        file = inspect.getsourcefile(target) or ""
        line = inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return cls.__module__
    return _place(file, line, target.__module__.partition(".")[0])


def running_line(package: str, constructs: nn.Module | None = None) -> str:
    """Return the innermost line of a package that is being run, if any.

    With `constructs`, the one that constructs this module: not one of its own
    ``__init__``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        own = constructs is not None and _is_init_of(frame, constructs)
        if not own and _is_in(frame, package):
            return _line(frame, package)
        frame = frame.f_back
    return ""


@dataclass
class BuildLines:
    """Lines of a package that made the modules of a model.

    Attributes
    ----------
    model : torch.nn.Module
    constructed : dict of int to str
        By the id of the module.
    assigned : dict of (int, str) to str
        Where a module, parameter or buffer got its name, by the id of the
        module that holds it, and the name.
    """

    model: nn.Module = field(default_factory=nn.Module)
    constructed: dict[int, str] = field(default_factory=dict)
    assigned: dict[tuple[int, str], str] = field(default_factory=dict)

    def of_module(self, name: str) -> str:
        """Return the line that constructs a module; empty if not known."""
        return self._of_module(self.model.get_submodule(name))

    def _of_module(self, module: nn.Module) -> str:
        return self.constructed.get(id(module), "")

    def of_name(self, name: str, known: Collection[str] = ()) -> str:
        """Return the line that names a tensor or module of the model.

        That of the outermost module that is new where `known` are old names;
        else the innermost line that assigns it or a module around it. For a
        tensor that the model lacks, the line that constructs the innermost
        module that would hold it.
        """
        module, found, path = self.model, "", ""
        for segment in name.split("."):
            path = f"{path}.{segment}" if path else segment
            line = self.assigned.get((id(module), segment), "")
            child = getattr(module, segment, None)
            if child is None:
                return self._of_module(module) or found
            found = line or found
            if known and path not in known:
                return line or self.constructed.get(id(child), "") or found
            module = child
        return found


@contextmanager
def recorded_build(package: str) -> Iterator[BuildLines]:
    """Record the lines of a package that build the `model` in the block."""
    lines = BuildLines()
    init, assign = nn.Module.__init__, nn.Module.__setattr__
    register = nn.Module.register_buffer

    def construct(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        lines.constructed[id(module)] = running_line(package, module)
        init(module, *args, **kwargs)

    def setattr_(module: nn.Module, name: str, value: Any) -> None:
        caller = sys._getframe(1)
        # Not where torch assigns what a layer of its own consists of.
        if isinstance(value, nn.Module | nn.Parameter) and _is_in(
            caller, package
        ):
            lines.assigned[id(module), name] = _line(caller, package)
        assign(module, name, value)

    def buffer(module: nn.Module, name: str, *args: Any, **kw: Any) -> None:
        lines.assigned[id(module), name] = running_line(package)
        register(module, name, *args, **kw)

    with (
        mock.patch.object(nn.Module, "__init__", construct),
        mock.patch.object(nn.Module, "__setattr__", setattr_),
        mock.patch.object(nn.Module, "register_buffer", buffer),
    ):
        yield lines


def _is_in(frame: FrameType, package: str) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == package


def _is_init_of(frame: FrameType, module: nn.Module) -> bool:
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is module


def _line(frame: FrameType, package: str) -> str:
    return _place(frame.f_code.co_filename, frame.f_lineno, package)


def _place(file: str, line: int, package: str) -> str:
    """Write a place from its package on: ``neural_lam/a.py:97``."""
    path = Path(file)
    if package in path.parts:
        last = len(path.parts) - 1 - path.parts[::-1].index(package)
        path = Path(*path.parts[last:])
    return f"{path.as_posix()}:{line}"
