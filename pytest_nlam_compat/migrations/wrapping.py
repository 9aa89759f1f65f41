"""Weights of a model inside of another module."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_nlam_compat.errors import CompatError

# Every release has one of them at the top: up to 0.6, and from 0.7 on.
_AT_THE_TOP = frozenset({"grid_embedder", "forecaster"})


def refuse_wrapped(names: Iterable[str]) -> None:
    """Refuse weights that stand under a prefix that no release has.

    What wraps a model (``DataParallel``, ``torch.compile``, an average of
    weights) puts one before each name. No step would match what it knows, or
    one would move all of it elsewhere, prefix and all.

    Parameters
    ----------
    names : iterable of str
        Keys of a state_dict.

    Raises
    ------
    CompatError
        With the prefix.
    """
    wrapped = None
    for name in names:
        segments = name.split(".")
        if segments[0] in _AT_THE_TOP:
            return
        if wrapped is None and not _AT_THE_TOP.isdisjoint(segments):
            wrapped = name
    if wrapped is None:
        return
    segments = wrapped.split(".")
    first = min(segments.index(s) for s in _AT_THE_TOP if s in segments)
    prefix = ".".join(segments[:first])
    raise CompatError(
        f"The weights stand under {prefix + '.'!r}, where no release of "
        "neural-lam has them.",
        facts={
            "found": wrapped,
            "expected": ".".join(segments[first:]),
        },
        remedy="Whatever wrapped the model has added the prefix. Take it off "
        "each name of the state_dict, and save that.",
    )
