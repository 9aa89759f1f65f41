"""How a file is refused, and the memory that reading it may take."""

from __future__ import annotations

from pathlib import Path

from pytest_nlam_compat.errors import CompatError

COPY_AGAIN = (
    "Copy it again from its source and compare the sizes. If the source is "
    "damaged too, the run that wrote it was interrupted: use an older "
    "checkpoint."
)
SAVE_AGAIN = (
    "If you trust its author: load it with torch.load, here if its classes are "
    "installed, and save it again with torch.save(..., path)."
)
CONVERT = (
    "If you trust its author: load it with torch.load in the environment that "
    "wrote it, convert this part or leave it out, and save it again."
)
DISTRUST = (
    "No checkpoint of neural-lam is like this. Do not pass it to torch.load "
    "unless you know who made it and how."
)

#: Every file may take this much memory; a pickle of 75 kB takes 4 MB.
FLOOR = 64 * 1024 * 1024

#: A file may take this many times its own size, if that is more.
FACTOR = 3

#: The longest text that may be a key or the name of a class, in characters.
KEY_LENGTH = 4096


class Budget:
    """The memory that reading one file may still take, estimated.

    One byte of a pickle can ask for a hundred bytes of memory (an empty
    dict), and a tensor of stride 0 for any amount.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._allowed = self._left = max(FLOOR, FACTOR * size)

    def grant(self, amount: int) -> None:
        """Allow some bytes more."""
        self._allowed += amount
        self._left += amount

    def charge(self, amount: int) -> None:
        """Use up some bytes; raise a CompatError if less than that is left."""
        self._left -= amount
        if self._left < 0:
            what = "asks for far more memory or time than its size"
            allowed = f"{self._allowed // (1024 * 1024)} MiB"
            raise refusal(self._path, what, DISTRUST, allowed=allowed)


def refusal(path: Path, what: str, remedy: str, **facts: object) -> CompatError:
    """Make the error for a file; ``what`` follows its name: "is empty"."""
    return CompatError(
        f"{printable(path.name or path.resolve().name or str(path))} {what}.",
        facts={"file": printable(str(path), 1000), **facts},
        remedy=remedy,
    )


def printable(text: str, limit: int = 80) -> str:
    """Return text from an untrusted file, safe for a terminal."""
    short = text if len(text) <= limit else text[:limit] + "..."
    if short.isprintable():
        return short
    return short.encode("unicode_escape").decode("ascii")
