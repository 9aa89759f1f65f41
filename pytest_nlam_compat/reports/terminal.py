"""Text on a terminal: colours, and what takes longer than a second."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

BOLD, RED, CYAN = "1", "31", "36"

_STYLES = (
    (re.compile(r"^ *nlam-compat .*", re.MULTILINE), CYAN),
    (re.compile(r"\brefused\b|\bUNKNOWN\b"), RED),
    (re.compile(r"^\w[\w .]{0,40}:(?=\s|$)", re.MULTILINE), BOLD),
)


def coloured(text: str, stream: TextIO) -> str:
    """Return text with colours, if the stream shows them."""
    if has_colours(stream):
        for pattern, style in _STYLES:
            text = pattern.sub(f"\x1b[{style}m\\g<0>\x1b[0m", text)
    return text


def has_colours(stream: TextIO) -> bool:
    """Tell whether a stream shows colours, and its user wants them."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
        # The old console of Windows would print the codes.
        and (os.name == "posix" or "WT_SESSION" in os.environ)
    )


@contextmanager
def progress(doing: str) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is done, if it takes longer than a second.

    Yields a function that changes what is said.
    """
    said, over, started = [doing], threading.Event(), time.monotonic()

    def tick() -> None:
        while not over.wait(1):
            seconds = int(time.monotonic() - started)
            sys.stderr.write(f"\r\x1b[K{said[-1]}, {seconds} s")
            sys.stderr.flush()

    thread = threading.Thread(target=tick, daemon=True)
    if has_colours(sys.stderr):
        thread.start()
    try:
        yield said.append
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
