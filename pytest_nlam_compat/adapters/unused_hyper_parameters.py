"""Which hyper-parameters of a run a class takes, and that none is lost.

Lightning's ``load_from_checkpoint`` leaves out what a class does not take and
says nothing: the default stands in for what the run was trained with.
"""

from __future__ import annotations

import copy
import inspect
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter
from typing import Any

from pytest_nlam_compat.errors import CompatError

LOST, TAKEN = "neither taken nor read from args", "it takes"
"""Facts of the error: paths of what would be lost, and names."""

# Up to 0.6 all there is stands in ``args``, which names the model, too; of
# these a module has to make use.
_OF_A_MODULE = ("loss", "lr")
# What is given besides the hyper-parameters, and no place for one.
_GIVEN = ("forecaster", "config", "datastore", "args")


@contextmanager
def raise_on_unused(
    cls: type, hyper_parameters: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Insist that a class makes use of all hyper-parameters of a run.

    Parameters
    ----------
    cls : type
        It is called in the block.
    hyper_parameters : mapping of str to Any
        Revived, without the configuration.

    Yields
    ------
    dict of str to Any
        Those that the class takes.

    Raises
    ------
    CompatError
        The class takes one not, nor does it read it from ``args``.
    """
    parameters = inspect.signature(cls).parameters
    takes_any = any(
        p.kind is Parameter.VAR_KEYWORD for p in parameters.values()
    )
    taken = {
        name: value
        for name, value in hyper_parameters.items()
        if takes_any or name in parameters
    }
    args = hyper_parameters.get("args")
    needed = {name: name for name in hyper_parameters if name != "args"}
    if args is not None and not needed:
        needed = {n: f"args.{n}" for n in _OF_A_MODULE if hasattr(args, n)}
    with _reading(args) as read:
        yield taken
    lost = [
        path
        for name, path in needed.items()
        if name not in taken and name not in read
    ]
    if lost and "__dict__" not in read:
        raise CompatError(
            f"{cls.__name__} of the current code loses hyper-parameters of "
            "the run: its defaults would stand in for them.",
            facts={
                LOST: ", ".join(lost),
                TAKEN: ", ".join(n for n in parameters if n not in _GIVEN),
            },
            remedy="Take them as before, or add a migration that says what "
            "has become of each: RenameHyperParameter or DropHyperParameter.",
        )


@contextmanager
def _reading(args: Namespace | None) -> Iterator[set[str]]:
    """Note which attributes of ``args`` are read, all of them as __dict__."""
    read: set[str] = set()
    if args is None:
        yield read
        return

    class Watched(Namespace):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

        def __deepcopy__(self, memo: dict[int, Any]) -> Namespace:
            # Lightning copies what it saves, which is no use of it.
            values = super().__getattribute__("__dict__")
            return Namespace(**copy.deepcopy(values, memo))

    args.__class__ = Watched
    try:
        yield read
    finally:
        args.__class__ = Namespace
