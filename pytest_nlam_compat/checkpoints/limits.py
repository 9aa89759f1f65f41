"""What a checkpoint may cost before anybody trusts it."""

from __future__ import annotations

from pathlib import Path

from pytest_nlam_compat.checkpoints.refusals import DISTRUST, refusal

#: Small files may cost this much; a pickle of 75 kB (737 tensors) costs 4 MB.
FLOOR = 64 * 1024 * 1024

#: A file may cost this many times its own size, if that is more.
FACTOR = 3

#: How deep lists, dicts and objects may be nested. Lightning needs about 10.
DEPTH = 100

#: The longest text that may be a key, or the name of a class, in characters.
KEY_LENGTH = 4096

#: The longest path to a part of the tree, in characters.
PATH_LENGTH = 8192

#: The longest integer, in bytes. Python needs quadratic time to show one.
INTEGER_LENGTH = 256


class Budget:
    """The memory that reading one file may still take, estimated.

    A byte of a pickle can ask for a hundred bytes of memory (an empty dict),
    so that a small file could fill a large machine.

    Parameters
    ----------
    path : Path
        The file, for the message.
    size : int
        Its size in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._allowed = max(FLOOR, FACTOR * size)
        self._left = self._allowed

    def charge(self, amount: int) -> None:
        """Take an amount of bytes.

        Parameters
        ----------
        amount : int
            About how many bytes the next object takes.

        Raises
        ------
        CompatError
            If less than that is left.
        """
        self._left -= amount
        if self._left < 0:
            raise refusal(
                self._path,
                "asks for far more memory than its size",
                DISTRUST,
                allowed=f"{self._allowed // (1024 * 1024)} MiB",
            )
