"""Processes that don't outlive the one that began them."""

from __future__ import annotations

import os
import threading

from pytest_nlam_compat.bisect.searching import INTERRUPTED


def end_with_parent() -> None:
    """End this process where its standard input does.

    That is a pipe whose other end only the process has that waits for this
    one. Were that one killed, this one would go on to use a worktree and files
    that the next bisect begins anew.
    """
    # pytest captures output by putting others in the place of the first three.
    end = os.dup(0)
    threading.Thread(target=_watch, args=(end,), daemon=True).start()


def _watch(end: int) -> None:
    while os.read(end, 1):
        pass
    os._exit(INTERRUPTED)
