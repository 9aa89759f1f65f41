"""Copying a large file before it is known what is to become of it.

Reading a checkpoint and finding its way takes an eighth of a second, in which
a second core can copy 300 MB. Most of a file will be the same in the new one,
and only a little further on: there is where it is put. Whatever then is not at
the right place is copied again, so that nothing depends on the guess.

This imports little, so that it can begin at once.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
from pathlib import Path

from pytest_nlam_compat.checkpoints.draft import Draft

# As in typing, whose import would take as long as copying 5 MB does.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable

#: So much further on is each byte put. The room in front is for names that
#: get longer; it is a multiple of a memory page, as kernels like it, and less
#: than the 64 kB that padding can fill.
SHIFT = 60 * 1024

#: Smaller files are copied in the time that a thread takes to begin.
_LARGE = 64 * 1024 * 1024

_PIECE = 64 * 1024 * 1024
_LAST_PIECES = 8 * 1024 * 1024
_WINDOW = 2 * 1024 * 1024

# After each piece the thread waits so long for the interpreter, in s. By
# default it is ten times that, in which 10 MB could be copied.
_WAIT = 0.0005

# So long nobody helps where no core is free, in s.
_PAUSE = 0.005

_MAGIC = b"PK\x03\x04"
_POPULATE_WRITE = 23  # of Linux; Python 3.11 has no name for it


class HeadStart:
    """A copy that is under way in a thread of its own.

    Parameters
    ----------
    source : int
        Descriptor of the file to be copied; closed by `close`.
    draft : Draft
        Where to; as well.

    Attributes
    ----------
    draft : Draft
    done : int
        That many bytes of the source are in the draft, from `SHIFT` on.
    """

    def __init__(self, source: int, draft: Draft) -> None:
        self.draft = draft
        self.done = 0
        self._source = source
        self._target = draft.stream.fileno()
        self._identity = _identity(source)
        self._lock = threading.Lock()
        # What is between the two is nobody's yet.
        self._claimed, self._end = 0, os.fstat(source).st_size
        self._piece = _PIECE
        self._usual_wait = sys.getswitchinterval()
        sys.setswitchinterval(_WAIT)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def is_of(self, descriptor: int) -> bool:
        """Tell whether an open file is the source, as it was then."""
        return _identity(descriptor) == self._identity

    def stop(self) -> None:
        """Let it end its current piece, and then no more."""
        with self._lock:
            self._end = 0
        self._thread.join()
        sys.setswitchinterval(self._usual_wait)

    def finish(
        self, end: int, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Let it copy what is left, and help.

        Parameters
        ----------
        end : int
            Up to which byte of the source; the draft reaches as far already.
        progress : callable, optional
            Told now and then how many bytes are copied, and of how many.
        """
        with self._lock:
            self._end = min(self._end, end)
            self._piece = _LAST_PIECES
        filled: bool | None = True
        while filled and self._thread.is_alive():
            if _core_is_free():
                filled = self._fill_last()
            else:
                self._thread.join(_PAUSE)
            if progress:
                progress(min(self.done + end - self._end, end), end)
        self._thread.join()
        # What the thread did begins at 0, and what was filled reaches the end.
        if filled is not None and self.done >= self._end:
            self.done = max(self.done, end)
            if progress:
                progress(end, end)

    def close(self) -> None:
        """Stop, and remove the draft if it did not become anything."""
        self.stop()
        os.close(self._source)
        self.draft.close()

    def _work(self) -> None:
        # Whoever goes on with the draft will meet the error again, and say it.
        with contextlib.suppress(OSError):
            while self._claim():
                while self.done < self._claimed:
                    count = os.copy_file_range(
                        self._source,
                        self._target,
                        self._claimed - self.done,
                        self.done,
                        self.done + SHIFT,
                    )
                    if count == 0:
                        return
                    self.done += count

    def _claim(self) -> bool:
        with self._lock:
            more = min(self._piece, self._end - self._claimed)
            self._claimed += max(more, 0)
            return more > 0

    def _fill_last(self) -> bool | None:
        """Copy the last piece that is nobody's yet; None if that fails.

        File systems let one at a time write to a file. By way of memory that
        is mapped to it, the second does not wait for the first.
        """
        import mmap

        with self._lock:
            start = (self._end - 1) // _WINDOW * _WINDOW
            size = self._end - start
            if start < self._claimed:
                return False
            self._end = start
        try:
            with mmap.mmap(self._target, size, offset=start + SHIFT) as window:
                # Where there is no room, this fails; touching would be fatal.
                window.madvise(_POPULATE_WRITE)
                count = os.preadv(self._source, [window], start)
        except OSError:
            return None
        return True if count == size else None


def begin(source: Path, target: Path) -> HeadStart | None:
    """Begin to copy a file, where that is worth it and can be done.

    Parameters
    ----------
    source : Path
        The old file.
    target : Path
        The new one; no link.

    Returns
    -------
    HeadStart or None
        None where it is to be copied in the end, and any error to be found
        then.
    """
    if not hasattr(os, "copy_file_range"):
        return None
    with contextlib.ExitStack() as undo, contextlib.suppress(OSError):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size < _LARGE:
            return None
        descriptor = os.open(source, os.O_RDONLY)
        undo.callback(os.close, descriptor)
        if os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
            return None
        draft = Draft(target)
        undo.pop_all()
        return HeadStart(descriptor, draft)
    return None


def _core_is_free() -> bool:
    """Tell whether a core would do nothing, if nobody helped.

    By memory that is mapped a copy costs twice the time of a core, and what
    others have to do would wait for it, as would the thread.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        # The numbers of threads that run, or would, and of all: 3/281.
        running = Path("/proc/loadavg").read_text().split()[3].split("/")[0]
        # This one and the other are two of them.
        return cores > 1 and int(running) <= cores
    except (OSError, ValueError, IndexError):
        return False


def _identity(descriptor: int) -> tuple[int, ...]:
    status = os.fstat(descriptor)
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
    )
