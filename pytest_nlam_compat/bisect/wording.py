"""Names and numbers, as people read them."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 6


def summary(names: Iterable[str]) -> str:
    """Name checks, by their references.

    Parameters
    ----------
    names : iterable of str
        Such as ``test_loss[0.7.0-graph_lam]``.

    Returns
    -------
    str
        Such as ``0.7.0-graph_lam (loss)``.
    """
    grouped: dict[str, list[str]] = {}
    for name in names:
        check, _, reference = name.removesuffix("]").partition("[")
        grouped.setdefault(reference, []).append(check.removeprefix("test_"))
    parts = [f"{ref} ({', '.join(found)})" for ref, found in grouped.items()]
    rest = len(parts) - _SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(parts[:_SHOWN]) + more


def count(number: int, what: str) -> str:
    """Say how many there are.

    Parameters
    ----------
    number : int
    what : str
        What one of them is called.

    Returns
    -------
    str
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
