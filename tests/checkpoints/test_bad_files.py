"""What is no archive of torch.save is named as what it is, and refused."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import re
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import ZipWriter
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.files import refusals

EMPTY_DICT = b"\x80\x02}."


def refused(path: Path) -> CompatError:
    with pytest.raises(CompatError) as caught:
        read_checkpoint(path).archive.close()
    return caught.value


def array_file() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(2))
    return stream.getvalue()


def tar_file() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"hello", "is not a checkpoint of torch.save"),
        (
            struct.pack("<Q", 20) + b'{"__metadata__": {}}',
            "is a safetensors file, not a checkpoint",
        ),
        (tar_file(), "is a tar archive"),
        (
            b"\x80\x04N.",
            "is a bare pickle, as torch before 1.6 and other tools write; "
            "loading it may run any code",
        ),
        (
            b"\x89HDF\r\n\x1a\n",
            "is an HDF5 file, as netCDF-4 and Keras write",
        ),
        (b"\x1f\x8b\x08", "is compressed with gzip"),
        (bz2.compress(b"x"), "is compressed with bzip2"),
        (lzma.compress(b"x"), "is compressed with xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "is compressed with zstd"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7-Zip archive"),
        (b"CDF\x02\x00", "is a netCDF file"),
        (b"GRIB\x00\x00", "is a GRIB file"),
        (array_file(), "is an array of numpy"),
        (b"\n <!DOCTYPE HTML>\n<html>", "is a web page"),
        (b"<?xml version='1.0'?><Error>", "is a web page"),
        (
            b"/annex/objects/MD5E-s1--0.ckpt\n",
            "is only the pointer of a git-annex file",
        ),
        (b"outs:\n- md5: 1a2b\n", "is only the pointer of a DVC file"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is only the pointer of a Git LFS file",
        ),
        (
            b"PK\x03\x04",
            "does not end as an archive of torch.save does: it was cut "
            "short, something was appended, or another program wrote it",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_other_files_are_named(
    tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    assert refused(path).what == f"other.ckpt {what}."


def test_a_refusal_shows_the_file_and_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "legacy.ckpt"
    torch.save([1], path, _use_new_zipfile_serialization=False)
    assert str(refused(path)) == (
        "legacy.ckpt is a bare pickle, as torch before 1.6 and other tools "
        "write; loading it may run any code.\n"
        f"  file: {path}\n"
        "If you trust its author: load it with torch.load, here if its "
        "classes are installed, and save it again with torch.save(..., path)."
    )


def test_no_regular_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.ckpt").what == "no.ckpt can't be opened."
    assert refused(tmp_path).what == (
        f"{tmp_path.name} is a directory, as distributed checkpoints are."
    )
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe").what == "pipe is not a regular file."


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program(tmp_path: Path) -> None:
    path = tmp_path / "program.ckpt"
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)
    assert refused(path).what == (
        "program.ckpt is a TorchScript archive: a program, not a checkpoint."
    )


def test_other_zip_archives(craft: Any, tmp_path: Path) -> None:
    script = craft(EMPTY_DICT, {"constants.pkl": b"", "code/a.py": b""})
    assert refused(script).what == (
        "crafted.ckpt is a TorchScript archive: a program, not a checkpoint."
    )
    path = tmp_path / "plain.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/readme.txt", "")
    assert refused(path).what == (
        "plain.zip is a zip archive around other files, such as a/readme.txt."
    )
    notes = refused(craft(EMPTY_DICT, {"readme.txt": b""}))
    assert (
        notes.what
        == "crafted.ckpt holds a record that torch.save does not write."
    )
    assert notes.facts["record"] == "archive/readme.txt"


@pytest.mark.parametrize("name", ["old.ckpt", "run/old.ckpt", "run/"])
def test_a_zip_around_a_checkpoint(
    tmp_path: Path, lightning_bytes: bytes, name: str
) -> None:
    path = tmp_path / "old.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, lightning_bytes if name[-1] != "/" else b"")
    error = refused(path)
    assert f"is a zip archive around other files, such as {name}" in error.what
    assert "unzip" in error.remedy


def test_arrays_of_numpy_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.zeros(2))
    assert "around other files, such as a.npy" in refused(path).what


def test_a_link_of_git_annex(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.symlink_to(".git/annex/objects/x/y/MD5E-s1--0.ckpt")
    error = refused(path)
    assert error.what == "old.ckpt can't be opened."
    assert error.facts["link to"].startswith(".git/annex/objects/")
    assert error.remedy == "Run git annex get."


@pytest.mark.parametrize("missing", ["data.pkl", "version"])
def test_a_record_that_is_missing(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "without.ckpt"
    with path.open("wb") as stream:
        writer = ZipWriter(stream, "a")
        for name in {"data.pkl", "version"} - {missing}:
            writer.add(name, b"3\n")
        writer.finish()
    assert refused(path).what == "without.ckpt has no data.pkl or no version."


@pytest.mark.parametrize(
    "folder", ["", ".", "..", "a/b", "/", "a\\b", "\n", 501 * "a"]
)
def test_dangerous_folders(craft: Any, folder: str) -> None:
    error = refused(craft(EMPTY_DICT, folder=folder))
    assert "holds a record that torch.save does not write" in error.what


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a//b", "a\\b", "\n"])
def test_dangerous_names(craft: Any, name: str) -> None:
    error = refused(craft(EMPTY_DICT, {name: b""}))
    assert "holds a record that torch.save does not write" in error.what


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_of_another_program(tmp_path: Path, method: int) -> None:
    path = tmp_path / "packed.ckpt"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", EMPTY_DICT)
        archive.writestr("a/version", b"3\n")
    assert "or another program wrote it" in refused(path).what


def test_two_records_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "twice.ckpt"
    with path.open("wb") as stream:
        writer = ZipWriter(stream, "a")
        for name in ("data.pkl", "version", "data.pkl"):
            writer.add(name, EMPTY_DICT)
        writer.finish()
    assert refused(path).what == "twice.ckpt holds two records of one name."


def test_truncated_anywhere(lightning_file: Path, tmp_path: Path) -> None:
    content = lightning_file.read_bytes()
    path = tmp_path / "short.ckpt"
    for length in range(4, len(content), 97):
        path.write_bytes(content[:length])
        assert "does not end as an archive" in refused(path).what


def test_something_before_behind_or_between(
    lightning_file: Path, tmp_path: Path
) -> None:
    content = lightning_file.read_bytes()
    path = tmp_path / "more.ckpt"
    path.write_bytes(content + b"\0")
    assert "something was appended" in refused(path).what
    path.write_bytes(b"\0" + content)
    assert refused(path).what == "more.ckpt is not a checkpoint of torch.save."
    path.write_bytes(b"PK\x03\x04" + content)
    assert "something was appended" in refused(path).what
    differ = struct.Struct("<Q")
    start = int.from_bytes(content[-50:-42], "little")
    for place in (start, content.index(b"PK\3\4", 4)):
        # With the numbers of the end fixed, but not those of the records.
        moved = bytearray(content[:place] + b"hide" + content[place:])
        moved[-50:-42] = differ.pack(start + 4)
        moved[-34:-26] = differ.pack(start + 4 + len(content) - start - 98)
        moved[-6:-2] = struct.pack("<I", start + 4)
        path.write_bytes(moved)
        assert re.search("not laid out|list of records", refused(path).what)


def test_every_byte_around_the_records_counts(craft: Any) -> None:
    path = craft(EMPTY_DICT, {"data/0": b"abc", "data/1": b""})
    content = path.read_bytes()
    with read_checkpoint(path) as checkpoint:
        inside = {
            at
            for record in checkpoint.archive.records.values()
            for at in range(record.start, record.start + record.size)
        }
    for at in set(range(len(content))) - inside:
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        assert refused(path).remedy


def test_another_alignment(tmp_path: Path) -> None:
    from torch.utils.serialization import config

    path = tmp_path / "aligned.ckpt"
    with config.patch("save.storage_alignment", 4096):
        torch.save([torch.ones(1)], path)
    error = refused(path)
    assert "not laid out as torch.save does it" in error.what
    # An option of torch.save writes it: nobody is accused.
    assert error.remedy.startswith("If you trust its author")


def test_overlapping_records(craft: Any) -> None:
    # Both entries of the directory point to the first record.
    path = craft(EMPTY_DICT, {"data/0": EMPTY_DICT})
    content = bytearray(path.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[second + 42 : second + 46] = bytes(4)
    path.write_bytes(content)
    assert "its list of records is not as torch" in refused(path).what


def test_a_record_with_two_names(craft: Any) -> None:
    path = craft(EMPTY_DICT)
    path.write_bytes(path.read_bytes().replace(b"data.pkl", b"date.pkl", 1))
    assert refused(path).what == (
        "crafted.ckpt holds a record that is not laid out as torch.save "
        "does it."
    )


def test_an_encrypted_record(craft: Any) -> None:
    path = craft(EMPTY_DICT)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "its list of records is not as torch" in refused(path).what


def test_a_flipped_bit_in_the_pickle(lightning_file: Path) -> None:
    content = bytearray(lightning_file.read_bytes())
    content[content.index(b"global_step")] ^= 1
    lightning_file.write_bytes(content)
    error = refused(lightning_file)
    assert error.what == (
        "model.ckpt is damaged: a record does not have its checksum."
    )
    assert error.facts["record"] == "data.pkl"


FIRST, SECOND = 0, 1
END, END64, ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x01\x02"


@pytest.mark.parametrize(
    ("signature", "which", "at", "change", "what"),
    [
        (END, FIRST, 4, b"\1", "its list of records is not"),
        (END, FIRST, 12, b"\xff", "its list of records is not"),
        (END, FIRST, 8, b"\1\0\1", "its list of records is not"),
        (END64, FIRST, 32, b"\1", "its list of records is not"),
        (END64, FIRST, 32, b"\3", "its list of records is not"),
        (END64, FIRST, 40, b"\xff", "does not end as an archive"),
        (ENTRY, SECOND, 0, b"X", "its list of records is not"),
        (ENTRY, SECOND, 32, b"\xff", "its list of records is not"),
        (ENTRY, FIRST, 12, b"\1", "its list of records is not"),
        (ENTRY, FIRST, 38, b"\x10", "its list of records is not"),
        (ENTRY, SECOND, 24, b"\xfe", "is not laid out as torch.save"),
        (ENTRY, FIRST, 24, b"\xff" * 4, "is not laid out as torch.save"),
        (ENTRY, FIRST, 50, b"\xff", "a record that torch.save does not write"),
        (b"PK\x03\x04", SECOND, 3, b"X", "is not laid out as torch.save"),
    ],
)
def test_damaged_numbers(
    craft: Any,
    signature: bytes,
    which: int,
    at: int,
    change: bytes,
    what: str,
) -> None:
    path = craft(EMPTY_DICT, {"version": b"3"}, folder="f" * 60)
    content = bytearray(path.read_bytes())
    start = content.index(signature)
    if which == SECOND:
        start = content.index(signature, start + 1)
    content[start + at : start + at + len(change)] = change
    path.write_bytes(content)
    assert what in refused(path).what


def test_a_damaged_zip64_end(lightning_file: Path) -> None:
    content = lightning_file.read_bytes()
    for damaged in (
        content.replace(b"PK\6\6", b"PK\6\5"),
        content.replace(b"PK\6\7", b"PK\6\5"),
        # torch writes both widths, and both are to say the same.
        content[:-14] + b"\xff" * 12 + content[-2:],
        content[:-14] + b"\1" + content[-13:],
    ):
        lightning_file.write_bytes(damaged)
        what = refused(lightning_file).what
        assert re.search("not end as an archive|list of records is not", what)


def test_a_size_beyond_the_file(craft: Any) -> None:
    path = craft(EMPTY_DICT)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<2I", 2**31, 2**31)
    path.write_bytes(content)
    assert "is not laid out as torch.save" in refused(path).what


def test_a_file_that_shrinks_while_it_is_read(lightning_file: Path) -> None:
    with read_checkpoint(lightning_file) as checkpoint:
        weight = checkpoint.data["state_dict"]["2.weight"]
        record = checkpoint.archive.records[weight.storage.record]
        os.truncate(lightning_file, record.start + 1)
        for read in (
            checkpoint.archive.verify,
            weight.load,
        ):
            with pytest.raises(CompatError, match="became shorter while"):
                read()


def test_a_closed_checkpoint(lightning_file: Path) -> None:
    with read_checkpoint(lightning_file) as checkpoint:
        weight = checkpoint.data["state_dict"]["2.weight"]
    with pytest.raises(
        CompatError, match=r"model\.ckpt has been closed already"
    ):
        weight.load()


def test_byte_orders(craft: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.ckpt"
    torch.save(torch.ones(1), path)
    with zipfile.ZipFile(path) as archive:
        pickle, record = (
            archive.read("one/data.pkl"),
            archive.read("one/data/0"),
        )
    # torch before 2.0 did not write the order; it was the little one.
    with read_checkpoint(craft(pickle, {"data/0": record})) as checkpoint:
        assert checkpoint.data.load().tolist() == [1]
    for order in (b"big", b"mixed!", bytes(100)):
        error = refused(craft(pickle, {"data/0": record, "byteorder": order}))
        assert error.what == (
            "crafted.ckpt was not written by torch.save on such a machine as "
            "this."
        )
        assert error.facts["byteorder"] in ("big", "mixed!", "\\x00" * 65)
        assert "save it again with torch.save" in error.remedy


def test_very_many_records(craft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "FLOOR", 100_000)
    path = craft(EMPTY_DICT, {f"data/{index}": b"" for index in range(300)})
    error = refused(path)
    assert error.what == (
        "crafted.ckpt asks for far more memory or time than its size."
    )


def test_names_can_not_speak_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J.ckpt"
    path.write_bytes(b"")
    assert refused(path).what == "a\\x1b[2J.ckpt is empty."


def test_a_disk_that_fails(tmp_path, monkeypatch):
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"PK")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(CompatError, match=r"^model.ckpt can't be read") as said:
        read_checkpoint(file)
    assert said.value.facts["cause"] == "Input/output error"
