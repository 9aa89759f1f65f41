"""How a file is refused, what it is instead, and the memory it may take."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.errors import CompatError

COPY_AGAIN = (
    "Copy it again from its source and compare the sizes. If the source is "
    "damaged too, the run that wrote it was interrupted: use an older "
    "checkpoint."
)
SAVE_AGAIN = (
    "Load it with torch.load in the environment that wrote it, and save it "
    "again with torch.save(..., path)."
)
DISTRUST = (
    "torch.save writes no such file. Do not pass it to torch.load unless you "
    "know who made it and how."
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
            what = "asks for far more memory than its size"
            allowed = f"{self._allowed // (1024 * 1024)} MiB"
            raise refusal(self._path, what, DISTRUST, allowed=allowed)


def refusal(path: Path, what: str, remedy: str, **facts: object) -> CompatError:
    """Make the error for a file; ``what`` follows its name: "is empty"."""
    return CompatError(
        f"{printable(path.name)} {what}.",
        facts={"file": printable(str(path), 1000), **facts},
        remedy=remedy,
    )


def printable(text: str, limit: int = 80) -> str:
    """Return text from an untrusted file, safe for a terminal."""
    short = text if len(text) <= limit else text[:limit] + "..."
    if short.isprintable():
        return short
    return short.encode("unicode_escape").decode("ascii")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, unbuffered."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb", buffering=0)
    except OSError as error:
        raise refusal(
            path,
            "can't be opened",
            "Check the path and its permissions.",
            cause=error.strerror or error,
        ) from None
    if stat.S_ISDIR(mode):
        raise refusal(
            path,
            "is a directory, as distributed checkpoints are",
            "Convert it to one file where it was written. For FSDP with "
            "Lightning: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python -m "
            "lightning_fabric.utilities.consolidate_checkpoint DIR. For torch "
            "alone, without hyper-parameters: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE. "
            "For DeepSpeed, its own zero_to_fp32.py.",
        )
    raise refusal(path, "is not a regular file", "Pass the path of a file.")


def is_safetensors(path: Path) -> bool:
    """Tell whether a file starts like safetensors; False if unreadable."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return _starts_as_safetensors(stream.read(9), stream.seek(0, 2))
    except OSError:
        return False


def refuse_foreign(head: bytes, size: int, path: Path) -> None:
    """Refuse a file that does not start like an archive of torch.save."""
    what, remedy = "is not a checkpoint of torch.save", COPY_AGAIN
    if head.startswith(b"PK\x03\x04"):
        return
    if size == 0:
        what = "is empty"
    elif _starts_as_safetensors(head, size):
        what = "is a safetensors file, not a checkpoint"
        remedy = (
            "It has tensors but no hyper-parameters. Pass the checkpoint that "
            "it was exported from."
        )
    elif head[:1] == b"\x80" and head[1:2] <= b"\x05":
        what = (
            "is a bare pickle, as torch before 1.6 and other tools write; "
            "loading it may run any code"
        )
        remedy = (
            "If you trust its author: load it with torch.load in the "
            "environment that wrote it, and save it again with "
            "torch.save(..., path)."
        )
    elif head.startswith(b"\x1f\x8b"):
        what, remedy = "is compressed with gzip", "Unpack it with gunzip."
    elif head.startswith(b"version https://git-lfs"):
        what = "is only the pointer of a Git LFS file"
        remedy = "Run git lfs pull."
    raise refusal(path, what, remedy)


def _starts_as_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= size - 8
