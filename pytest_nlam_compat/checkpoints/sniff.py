"""What a file is, when it is not an archive of torch.save."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.checkpoints.refusals import (
    COPY_AGAIN,
    SAVE_AGAIN,
    refusal,
)
from pytest_nlam_compat.checkpoints.zipformat import LOCAL_SIGNATURE

_HEAD = 512
_TAR_MAGIC_AT = 257


def open_regular(path: Path) -> BinaryIO:
    """Open a file, and nothing that only looks like one.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    BinaryIO
        Unbuffered, since the records in it are read in large pieces.

    Raises
    ------
    CompatError
        If it can't be opened, or is a directory or a device.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            # Whoever asked for it closes it: it outlives this function.
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
            "Convert it to one file where it was written: for torch, python "
            "-m torch.distributed.checkpoint.format_utils dcp_to_torch; for "
            "DeepSpeed, its own zero_to_fp32.py.",
        )
    raise refusal(path, "is not a regular file", "Give the path of a file.")


def is_safetensors(path: Path) -> bool:
    """Tell whether a file begins as one of safetensors; not if unreadable."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            size = stream.seek(0, 2)
    except OSError:
        return False
    return _begins_as_safetensors(head, size)


def refuse_foreign(stream: BinaryIO, size: int, path: Path) -> None:
    """Refuse a file that does not begin as an archive of torch.save does.

    Parameters
    ----------
    stream : BinaryIO
        The file.
    size : int
        Its size in bytes.
    path : Path
        Its path, for messages.

    Raises
    ------
    CompatError
        With the name of what it is, where that can be told.
    """
    if size == 0:
        raise refusal(path, "is empty", COPY_AGAIN)
    stream.seek(0)
    head = stream.read(_HEAD)
    if head.startswith(LOCAL_SIGNATURE):
        return
    what, remedy = _name(head, size)
    raise refusal(path, what, remedy)


def _name(head: bytes, size: int) -> tuple[str, str]:
    if _begins_as_safetensors(head, size):
        return (
            "is a safetensors file, and no checkpoint",
            "It has tensors only, without hyper-parameters. Give the "
            "checkpoint that it was made from.",
        )
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "is a tar archive, as torch before 0.2 wrote", SAVE_AGAIN
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return (
            "is a bare pickle, as torch before 1.6 and other tools write; it "
            "may run anything when it is loaded",
            "If you trust who made it: load it with torch.load in the "
            "environment that wrote it, and write it again with "
            "torch.save(..., path).",
        )
    if head.startswith(b"\x89HDF"):
        return "is an HDF5 file, as Keras writes", SAVE_AGAIN
    if head.startswith(b"\x1f\x8b"):
        return "is compressed with gzip", "Unpack it with gunzip."
    if head.startswith(b"version https://git-lfs"):
        return "is only the pointer of a Git LFS file", "Run git lfs pull."
    return "is not a checkpoint of torch.save", COPY_AGAIN


def _begins_as_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= size - 8
