"""The releases of neural-lam that are known here."""

from __future__ import annotations

RELEASES = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0")


def since(first: str) -> tuple[str, ...]:
    """List a release and those after it."""
    return RELEASES[RELEASES.index(first) :]


def before(first: str) -> tuple[str, ...]:
    """List the releases before one."""
    return RELEASES[: RELEASES.index(first)]
