"""The ready-made checks.

A repository that wants them among its own tests writes a file with::

    from pytest_nlam_compat.checks import *
"""

from importlib import import_module


def __getattr__(name: str) -> object:
    # Not imported before: torch takes seconds, and some commands only want
    # another module of this package.
    if name.startswith("__") and name != "__all__":
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.suite"), name)
