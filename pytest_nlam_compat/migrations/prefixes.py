"""Weights of a part of a model of 0.7, without the names of what it is in.

Up to 0.6 there is one module, and its names begin at the top. Since 0.7 it is
the predictor in a forecaster, and a file of the predictor alone may have the
very names of 0.6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from packaging.version import Version

from pytest_nlam_compat.errors import CompatError

FIRST_WITH_PREFIX = Version("0.7.0")
PREFIX = "forecaster.predictor."
_FORECASTER = "forecaster."
_PREDICTOR = "predictor."
# At the top of GraphEFM, which 0.7.0 was the first to have.
_SINCE = ("grid_prev_embedder.", "grid_current_embedder.")
_AT_THE_TOP = (*_SINCE, "grid_embedder.")


def has_prefix(names: Iterable[str]) -> bool:
    """Tell whether weights stand where 0.7 has them."""
    return any(name.startswith(_FORECASTER) for name in names)


def refuse_part(names: Collection[str]) -> None:
    """Refuse weights whose names show that their prefix was left out.

    Parameters
    ----------
    names : collection of str
        Keys of a state_dict.

    Raises
    ------
    CompatError
        With the prefix.
    """
    if has_prefix(names):
        return
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
                f"The weights stand under {_PREDICTOR!r}, where no release of "
                "neural-lam has them.",
                facts={
                    "found": name,
                    f"expected of {FIRST_WITH_PREFIX}": f"{PREFIX}{rest}",
                    "expected before": rest,
                },
                remedy=f"Of a forecaster of {FIRST_WITH_PREFIX} that was saved "
                f"alone, put {_FORECASTER!r} before each name of the "
                f"state_dict; else take {_PREDICTOR!r} off each. Save that.",
            )


def without_prefix(name: str, found: str | None = None) -> CompatError:
    """Make the error for weights of 0.7.0 without their prefix.

    Parameters
    ----------
    name : str
        One of them, as it is within the predictor.
    found : str, optional
        As it is in the file, where that is another.

    Returns
    -------
    CompatError
        To be raised.
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
