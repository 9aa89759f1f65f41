"""Calls of the current code, with arguments bound by what they are."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from pytest_nlam_compat.errors import CompatError

_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
# What a required argument may be called besides the name of its role.
_WORDS = {
    "args": {"args", "arguments", "hparams", "namespace", "options"},
    "boundary_states": {"border", "boundary", "target", "true"},
    "config": {"cfg", "config", "configuration"},
    "datastore": {"data", "datastore", "ds", "store"},
    "forcing_features": {"forcing", "forcings"},
    "forecaster": {"forecaster", "model", "network"},
    "init_states": {"init", "initial"},
    "path": {"checkpoint", "ckpt", "file", "path"},
    "predictor": {"model", "network", "predictor", "step"},
    "predictor_class": {"class", "cls", "type"},
}
# Bases that do not tell one object of neural-lam from another.
_ANY = {"ABC", "Generic", "LightningModule", "Module", "object", "str"}
_HOOK = """\
    def pytest_nlam_compat_adapter(current):
        from pytest_nlam_compat.adapters.forecaster import ForecasterAdapter

        class Adapted(ForecasterAdapter):
            {}

        return Adapted(current)"""


class ApiChangedError(CompatError):
    """The current code can't be driven; this says nothing of checkpoints.

    Parameters
    ----------
    what : str
        What is missing, the end of a sentence.
    expected, found : str
        Signatures or names.
    adapter : str
        The method of the shortest adapter that would do.
    """

    def __init__(
        self, what: str, *, expected: str, found: str, adapter: str
    ) -> None:
        method = textwrap.indent(adapter, " " * 12).lstrip()
        super().__init__(
            f"The API of this neural_lam has changed: {what}. No checkpoint "
            "was judged.",
            facts={"expected": expected, "found": found},
            remedy="Tell this plugin how to drive it, in the conftest.py of "
            f"neural-lam (docs/adapters.md):\n\n{_HOOK.format(method)}",
        )


def call(
    function: Callable[..., Any],
    objects: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    *,
    expected: str,
) -> Any:
    """Call a function or class of the current code; see `bind`.

    It receives `more` in any case.

    Raises
    ------
    ApiChangedError
        It can't be called with what is known. What its own code raises is
        passed on.
    """
    bound = bind(function, objects, values, expected=expected)
    try:
        return function(**{**(more or {}), **bound})
    except TypeError as error:
        # Raised by the call itself: no code of the function was reached.
        if error.__traceback__ is None or error.__traceback__.tb_next is None:
            raise _refusal(function, str(error), "...", expected) from error
        raise


def bind(
    function: Callable[..., Any],
    objects: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
    *,
    expected: str,
) -> dict[str, Any]:
    """Find the arguments of a call among what is known, by name.

    One that is required may also have another name, if its annotation or a
    word in its name tells which object it is, and that object is not bound
    already: an optional ``datastore_boundary`` is not the datastore.

    Parameters
    ----------
    function : callable
    objects : mapping of str to object
        By role: ``args``, ``config``, ``datastore``, ``forecaster``, ...
    values : mapping of str to object, optional
        What is bound by its exact name only.
    expected : str
        The signature that was last known, for the error.

    Raises
    ------
    ApiChangedError
        A required argument is not known.
    """
    bound, unknown = match(function, objects, values)
    if unknown:
        entries = ", ".join(f'"{name}": ...' for name in unknown)
        why = f"{', '.join(unknown)} not known"
        raise _refusal(function, why, entries, expected)
    return bound


def match(
    function: Callable[..., Any],
    objects: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments that `bind` finds, and the names that it misses."""
    known = {**(values or {}), **objects}
    named = [p for p in parameters_of(function) if p.kind not in _VARIADIC]
    bound = {p.name: known[p.name] for p in named if p.name in known}
    required = [p for p in named if p.default is Parameter.empty]
    for parameter in required:
        free = {
            role: value
            for role, value in objects.items()
            if not any(value is other for other in bound.values())
        }
        if parameter.name not in bound:
            role = _by_annotation(parameter, free) or _by_word(parameter, free)
            if role is not None:
                bound[parameter.name] = free[role]
    unknown = [p.name for p in required if p.name not in bound]
    return bound, unknown if named else ["its arguments"]


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a function or class.

    A class that passes ``**kwargs`` on accepts what the class that it is
    derived from does. It may pass what that one requires itself, so none of
    these is required.
    """
    found = list(inspect.signature(function).parameters.values())
    bases = function.__mro__[1:] if isinstance(function, type) else ()
    for base in bases:
        if not any(p.kind is Parameter.VAR_KEYWORD for p in found):
            break
        if "__init__" in vars(base) and base is not object:
            names = {p.name for p in found}
            found = [p for p in found if p.kind not in _VARIADIC]
            found += [
                p if p.kind in _VARIADIC else p.replace(default=None)
                for p in inspect.signature(base).parameters.values()
                if p.name not in names or p.kind in _VARIADIC
            ]
    return found


def signature(function: Callable[..., Any]) -> str:
    """Return how a function is called: its name and arguments."""
    name = getattr(function, "__qualname__", repr(function))
    bare = [
        parameter.replace(annotation=Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return f"{name}{inspect.Signature(bare)}"


def _refusal(
    function: Callable[..., Any], why: str, entries: str, expected: str
) -> ApiChangedError:
    name = getattr(function, "__qualname__", repr(function))
    return ApiChangedError(
        f"{getattr(function, '__module__', '?')}.{name} can't be called, {why}",
        expected=expected,
        found=signature(function),
        adapter="def known(self, hyper_parameters, datastore):\n"
        "    values = super().known(hyper_parameters, datastore)\n"
        f"    return values | {{{entries}}}",
    )


def _by_annotation(
    parameter: Parameter, objects: Mapping[str, Any]
) -> str | None:
    """Return the only object whose class is named in an annotation."""
    if parameter.annotation is Parameter.empty:
        return None
    # Without evaluating it: what it names may not be imported.
    text = inspect.formatannotation(parameter.annotation)
    words = set(re.findall(r"\w+", text))
    fitting = [
        role
        for role, value in objects.items()
        if (
            words & {"type", "Type"}
            if isinstance(value, type)
            else words & {c.__name__ for c in type(value).__mro__} - _ANY
        )
    ]
    return fitting[0] if len(fitting) == 1 else None


def _by_word(parameter: Parameter, objects: Mapping[str, Any]) -> str | None:
    """Return the only object that a word of a name means."""
    words = set(parameter.name.lower().split("_"))
    fitting = [role for role in objects if words & _WORDS.get(role, {role})]
    return fitting[0] if len(fitting) == 1 else None
