"""Whatever our readers accept, those of others read as the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import KINDS, run
from mutations import Zip, originals
from torch_comparison import check
from weights_comparison import check_weights, weights_files

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError

# A few seconds; `nox -s fuzz` runs more than a million.
SAMPLE = 2600

EVIL = b"\x80\x02cos\nsystem\nX\2\0\0\0ls\x85R."
ORIGINAL, *_ = originals()


def test_what_all_read_is_the_same(tmp_path: Path) -> None:
    counts, found = run(range(SAMPLE), tmp_path)
    assert found == {}
    for kind in KINDS:
        assert counts[f"{kind.name} accepted"] > counts[kind.name] // 100


def test_what_was_found_once(tmp_path: Path) -> None:
    for file in Path(__file__).with_name("found").glob("*.*"):
        compare = check if file.suffix == ".ckpt" else check_weights
        compare(file.read_bytes(), tmp_path)


def test_the_originals_are_accepted(tmp_path: Path) -> None:
    for original in originals():
        assert check(original, tmp_path)
        assert check(Zip(original).build(), tmp_path)
    for original in weights_files():
        assert check_weights(original, tmp_path)


def twin(content: bytes, name: bytes) -> Callable[[Any], None]:
    def change(archive: Any) -> None:
        archive.records.append(
            {"name": name, "content": content, "flags": 2056, "align": True}
        )

    return change


def setting(name: bytes, /, **changes: Any) -> Callable[[Any], None]:
    def change(archive: Any) -> None:
        (record,) = (r for r in archive.records if r["name"] == name)
        record.update({key.replace("_", " "): changes[key] for key in changes})

    return change


def zip64(count: int, *values: int) -> bytes:
    packed = struct.pack(f"<{len(values)}Q", *values)
    return (struct.pack("<2H", 1, len(packed)) + packed) * count


HOSTILE = {
    # miniz finds records without regard to case, and takes this one.
    "a twin of data.pkl": twin(EVIL, b"archive/DATA.PKL"),
    "a twin of a tensor": twin(bytes(24), b"archive/DATA/0"),
    # miniz leaves the memory of a directory as it is.
    "a directory": setting(b"archive/data/0", attributes=0x10),
    "a name of a directory": setting(
        b"archive/data/0", name=b"archive/data/0/"
    ),
    # miniz takes the first, and Python's zipfile the last.
    "two ZIP64 fields": setting(
        b"archive/data.pkl", extra=zip64(2, 4000), size=0xFFFFFFFF
    ),
    "a ZIP64 field too many": setting(b"archive/data/0", extra=zip64(1, 24)),
    "another local name": setting(
        b"archive/data/0", local_name=b"archive/data/1"
    ),
    "another local checksum": setting(
        b"archive/data/0", local_numbers=(1, 24, 24)
    ),
    "other local flags": setting(b"archive/data/0", local_flags=0),
    "another local method": setting(b"archive/data/0", local_method=8),
    "another descriptor": setting(b"archive/data/0", descriptor=bytes(16)),
    "bytes between": setting(b"archive/data/0", gap=b"hidden"),
    "bytes in front": lambda archive: setattr(archive, "before", b"PK\3\4"),
    "bytes behind": lambda archive: setattr(archive, "behind", b"hidden"),
    "a comment": setting(b"archive/data/0", comment=b"hidden"),
    "another record": twin(b"", b"archive/notes.txt"),
    # These four were found by the comparison.
    "a short field": setting(b"archive/data/0", align=False, local_extra=b"ab"),
    "an empty id": setting(b"archive/.data/serialization_id", content=b""),
    "an id that is no text": setting(
        b"archive/.data/serialization_id", content=b"\x80" * 40
    ),
    "a storage that is called": setting(
        b"archive/data.pkl", content=b"\x80\x02cmod\nFloatStorage\n)R."
    ),
    "no version": lambda archive: archive.records.remove(
        next(r for r in archive.records if r["name"] == b"archive/version")
    ),
    "another version": setting(b"archive/version", content=b"99\n"),
    "a frame in protocol 2": setting(
        b"archive/data.pkl",
        content=b"\x80\x02\x95\3\0\0\0\0\0\0\0]]a.",
    ),
}


def test_an_end_beyond_all_numbers(tmp_path: Path) -> None:
    path = tmp_path / "hostile.ckpt"
    path.write_bytes(
        ORIGINAL[:-50]
        + struct.pack("<2Q", 2**64 - 1, 2**64 - 1)
        + ORIGINAL[-34:]
    )
    with pytest.raises(CompatError, match="does not end as an archive"):
        read_checkpoint(path)


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_two_readers_could_read_differently_is_refused(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    archive = Zip(ORIGINAL)
    path = tmp_path / "hostile.ckpt"
    path.write_bytes(archive.build())
    read_checkpoint(path).archive.close()
    change(archive)
    path.write_bytes(archive.build())
    with pytest.raises(CompatError, match=r"^hostile\.ckpt ") as caught:
        read_checkpoint(path)
    assert caught.value.facts["file"] == str(path)
    assert caught.value.remedy
