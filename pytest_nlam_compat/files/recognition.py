"""What a file is, before anything of it is trusted."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.files.refusals import COPY_AGAIN, SAVE_AGAIN, refusal


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
            "Convert it to one file where it was written: for torch, python "
            "-m torch.distributed.checkpoint.format_utils dcp_to_torch; for "
            "DeepSpeed, its own zero_to_fp32.py.",
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
        remedy = SAVE_AGAIN
    elif head.startswith(b"\x1f\x8b"):
        what, remedy = "is compressed with gzip", "Unpack it with gunzip."
    elif head.startswith(b"version https://git-lfs"):
        what = "is only the pointer of a Git LFS file"
        remedy = "Run git lfs pull."
    raise refusal(path, what, remedy)


def _starts_as_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= size - 8
