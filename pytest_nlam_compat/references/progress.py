"""How far a download is, in one line of a terminal."""

from __future__ import annotations

from typing import TextIO

_ERASE_LINE = "\r\x1b[K"


class ProgressLine:
    """A progress bar in pooch's sense, which needs no further package.

    Parameters
    ----------
    label : str
        What is downloaded.
    stream : TextIO
        The terminal.

    Attributes
    ----------
    total : int
        Bytes that are expected, 0 if unknown. Set by pooch.
    """

    def __init__(self, label: str, stream: TextIO) -> None:
        self.total = 0
        self._label = label
        self._stream = stream
        self._done = 0

    def update(self, size: int) -> None:
        """Count bytes that have arrived."""
        self._done += size
        # pooch counts whole chunks, the last of which is seldom full.
        done = min(self._done, self.total) if self.total else self._done
        of = f" of {self.total / 1000:.0f}" if self.total else ""
        self._stream.write(
            f"{_ERASE_LINE}{self._label}: {done / 1000:.0f}{of} kB"
        )
        self._stream.flush()

    def reset(self) -> None:
        """Begin to count anew."""
        self._done = 0

    def close(self) -> None:
        """Leave the line empty for what comes next."""
        self._stream.write(_ERASE_LINE)
        self._stream.flush()
