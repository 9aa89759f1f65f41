"""Which keys of a dict are taken from a file that nobody trusts."""

from __future__ import annotations

from typing import Any

from pytest_nlam_compat.checkpoints.limits import KEY_LENGTH
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    InertObject,
    TensorRef,
)

#: Python's hash of an integer is its remainder by this: only below it can no
#: file bring many keys of one hash, which would take quadratic time.
_HASH_MODULUS = 2**61 - 1
_MOST_KEY_PARTS = 8


class MalformedError(ValueError):
    """A call that can't mean what it says; the text says why."""


def checked_key(key: Any) -> Any:
    """Return a key of a dict, or a member of a set, that is cheap to hash.

    Parameters
    ----------
    key : object
        What the pickle uses as a key.

    Returns
    -------
    object
        The same.

    Raises
    ------
    MalformedError
        If it can't be hashed, or hashing it could take long.
    """
    if isinstance(key, tuple):
        if len(key) > _MOST_KEY_PARTS or any(
            isinstance(part, tuple) for part in key
        ):
            raise MalformedError("a key that is a long or nested tuple")
        for part in key:
            checked_key(part)
    elif isinstance(key, (str, bytes)):
        if len(key) > KEY_LENGTH:
            raise MalformedError(f"a key of {len(key)} characters")
    elif isinstance(key, int):
        if abs(key) >= _HASH_MODULUS:
            raise MalformedError("a key that is a very large number")
    elif not (
        key is None
        or isinstance(key, (float, GlobalRef, InertObject, TensorRef))
    ):
        raise MalformedError(f"a key that is a {type(key).__name__}")
    return key
