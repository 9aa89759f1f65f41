"""Prefixes of weight names: that of 0.7, and those that no release has.

Up to 0.6 there is one module, and its names begin at the top. Since 0.7 it is
the predictor in a forecaster. A file of the predictor alone may have the very
names of 0.6, and what wraps a model (``DataParallel``, ``torch.compile``, an
average of weights) adds a prefix of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError

FIRST_WITH_PREFIX = Version("0.7.0")
PREFIX = "forecaster.predictor."
"""Of all weights in a model of 0.7."""

_FORECASTER = "forecaster."
_PREDICTOR = "predictor."
# At the top of GraphEFM, which 0.7.0 was the first to have.
_SINCE = ("grid_prev_embedder.", "grid_current_embedder.")
_AT_THE_TOP = (*_SINCE, "grid_embedder.")
# Every release has one of them at the top: up to 0.6, and from 0.7 on.
_FIRST_SEGMENTS = frozenset({"grid_embedder", "forecaster"})


def has_prefix(names: Iterable[str]) -> bool:
    """Tell whether weights are where 0.7 has them."""
    return any(name.startswith(_FORECASTER) for name in names)


def raise_on_unknown_prefix(names: Collection[str]) -> None:
    """Refuse weights without the prefix of 0.7, or under a foreign one.

    Parameters
    ----------
    names : collection of str
        Keys of a state_dict.

    Raises
    ------
    CompatError
        With the prefix.
    """
    if not has_prefix(names):
        _raise_on_part(names)
    _raise_on_wrapper(names)


def without_prefix(name: str, found: str | None = None) -> CompatError:
    """Build the error for weights of 0.7.0 without their prefix.

    Parameters
    ----------
    name : str
        One of them, as it is within the predictor.
    found : str, optional
        As it is in the file, if that differs.
    """
    found = found or name
    lacking = PREFIX.removesuffix(found.removesuffix(name))
    return CompatError(
        f"The weights are a part of a model of neural-lam {FIRST_WITH_PREFIX}, "
        f"without the prefix {lacking!r}.",
        facts={"found": found, "expected": f"{PREFIX}{name}"},
        remedy=f"Put {lacking!r} before each name of the state_dict, and save "
        "that.",
    )


def _raise_on_part(names: Iterable[str]) -> None:
    for name in names:
        if name.startswith(_SINCE):
            raise without_prefix(name)
        rest = name.removeprefix(_PREDICTOR)
        if rest == name:
            continue
        if rest.startswith(_SINCE):
            raise without_prefix(rest, name)
        if rest.startswith(_AT_THE_TOP):
            raise CompatError(
                f"The names of the weights begin with {_PREDICTOR!r}, as in "
                "no release of neural-lam.",
                facts={
                    "found": name,
                    f"expected of {FIRST_WITH_PREFIX}": f"{PREFIX}{rest}",
                    "expected before": rest,
                },
                remedy=f"If it is a forecaster of {FIRST_WITH_PREFIX} that was "
                f"saved alone, put {_FORECASTER!r} before each name of the "
                f"state_dict; else remove {_PREDICTOR!r}. Save that.",
            )


def _raise_on_wrapper(names: Iterable[str]) -> None:
    wrapped = None
    for name in names:
        segments = name.split(".")
        if segments[0] in _FIRST_SEGMENTS:
            return
        if wrapped is None and not _FIRST_SEGMENTS.isdisjoint(segments):
            wrapped = segments
    if wrapped is None:
        return
    first = min(wrapped.index(s) for s in _FIRST_SEGMENTS if s in wrapped)
    prefix = ".".join(wrapped[:first])
    raise CompatError(
        f"The names of the weights begin with {prefix + '.'!r}, as in no "
        "release of neural-lam.",
        facts={
            "found": ".".join(wrapped),
            "expected": ".".join(wrapped[first:]),
        },
        remedy="Something that wrapped the model added the prefix. Remove it "
        "from each name of the state_dict, and save that.",
    )
