"""What a file is, before anything of it is trusted."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from pytest_nlam_compat.files.refusals import (
    COPY_AGAIN,
    SAVE_AGAIN,
    printable,
    refusal,
)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, unbuffered."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb", buffering=0)
    except OSError as error:
        remedy = "Check the path and its permissions."
        facts = {"cause": error.strerror or error}
        if path.is_symlink():
            facts["link to"] = link = printable(os.readlink(path), 1000)
            if "annex/objects/" in link.replace("\\", "/"):
                remedy = "Run git annex get."
        raise refusal(path, "can't be opened", remedy, **facts) from None
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


#: How many bytes of a file `refuse_foreign` looks at.
HEAD = 512

_UNPACK = "Unpack it{} and pass the checkpoint that is in it."
_NO_CHECKPOINT = (
    "Pass the checkpoint, a file that Trainer.save_checkpoint wrote."
)
_PAGE = (
    "A server sent this instead of the file: it may ask for a login. Download "
    "it again in a way that passes one, and compare the sizes."
)

#: The first record of what torch.save and TorchScript write.
_OF_TORCH = re.compile(rb"/(\w+\.pkl|version|code/.*|data/.*)$")

#: What files of other kinds start with (case is ignored, and blanks before
#: it) -> what they are, and what to do.
_FOREIGN = (
    (rb"\x1f\x8b", "is compressed with gzip", _UNPACK.format(" with gunzip")),
    (rb"bzh[1-9]", "is compressed with bzip2", _UNPACK.format(" with bunzip2")),
    (rb"\xfd7zxz\0", "is compressed with xz", _UNPACK.format(" with unxz")),
    (
        rb"\x28\xb5\x2f\xfd",
        "is compressed with zstd",
        _UNPACK.format(" with unzstd"),
    ),
    (
        rb"\x04\x22\x4d\x18",
        "is compressed with lz4",
        _UNPACK.format(" with unlz4"),
    ),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", _UNPACK.format("")),
    (rb"rar!\x1a\x07", "is a RAR archive", _UNPACK.format("")),
    (rb".{257}ustar", "is a tar archive", _UNPACK.format(" with tar -xf")),
    (
        rb"\x89hdf\r\n\x1a\n",
        "is an HDF5 file, as netCDF-4 and Keras write",
        _NO_CHECKPOINT,
    ),
    (rb"cdf[\x01\x02\x05]", "is a netCDF file", _NO_CHECKPOINT),
    (rb"grib", "is a GRIB file", _NO_CHECKPOINT),
    (rb"\x93numpy", "is an array of numpy", _NO_CHECKPOINT),
    (rb"<(!doctype html|html|head|\?xml)", "is a web page", _PAGE),
    (
        rb"version https://git-lfs",
        "is only the pointer of a Git LFS file",
        "Run git lfs pull.",
    ),
    (
        rb"(\.\./)*(\.git)?/annex/objects/",
        "is only the pointer of a git-annex file",
        "Run git annex get.",
    ),
    (
        rb"outs:\s+- (md5|etag|hash):",
        "is only the pointer of a DVC file",
        "Run dvc pull.",
    ),
    (
        rb"\x80[\0-\x05]",
        "is a bare pickle, as torch before 1.6 and other tools write; "
        "loading it may run any code",
        SAVE_AGAIN,
    ),
)


def refuse_foreign(head: bytes, size: int, path: Path) -> None:
    """Refuse a file that does not start like an archive of torch.save."""
    what, remedy = "is not a checkpoint of torch.save", COPY_AGAIN
    if head.startswith(b"PK\x03\x04"):
        length = int.from_bytes(head[26:28], "little")
        first = head[30 : 30 + length]
        # Longer names, and what torch writes, are judged record by record.
        if len(first) < max(1, length) or _OF_TORCH.search(first):
            return
        name = printable(first.decode("utf-8", "replace"))
        what = f"is a zip archive around other files, such as {name}"
        remedy = _UNPACK.format(" with unzip")
    elif size == 0:
        what = "is empty"
    elif _starts_as_safetensors(head, size):
        what = "is a safetensors file, not a checkpoint"
        remedy = (
            "It has tensors but no hyper-parameters. Pass the checkpoint that "
            "it was exported from."
        )
    else:
        for start, kind, way in _FOREIGN:
            if re.match(rb"\s*" + start, head, re.IGNORECASE | re.DOTALL):
                what, remedy = kind, way
                break
    raise refusal(path, what, remedy)


def _starts_as_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= size - 8
