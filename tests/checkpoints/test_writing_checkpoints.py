"""What is written is what was read, but for the changes."""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_nlam_compat.checkpoints import zipformat
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError


class Point:
    """Made in as many ways as an instance can be."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Point:
        return super().__new__(cls)

    def __init__(self, x: int = 0, *, y: int = 0) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and vars(self) == vars(other)

    class Inner:
        pass


class Table(dict[str, int]):
    pass


PLAIN = [
    None,
    True,
    [0, 255, 256, 65535, 65536, -1, -(2**31), 2**31, -(2**100), 2**2030],
    1.5,
    float("inf"),
    "text \N{SNOWMAN}",
    b"",
    b"\x00\xff",
    (),
    (1, 2, 3, (4, 5, 6, 7)),
    {"a": {1: [2]}},
    {1, "b"},
    frozenset({3}),
    collections.OrderedDict(a=1),
    list(range(1000)),
    [f"name {index}" for index in range(400)],
]


def rewritten(path: Path) -> Any:
    """Return what torch makes of a file that was read and written."""
    target = path.with_name("rewritten.pt")
    with read_checkpoint(path) as checkpoint:
        write_checkpoint(checkpoint.data, target)
    return torch.load(target, weights_only=False)


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "plain.pt")
    found = rewritten(tmp_path / "plain.pt")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(a=1, b=[2]),
        Point(1, y=2),
        Table(a=1),
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        torch.Size([1, 2]),
        torch.float32,
        torch.device("cpu"),
        Point.Inner,
        range(3),
        np.arange(3.0),
        np.float32(2),
        Path("a"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_objects(tmp_path: Path, value: Any) -> None:
    torch.save([value, value], tmp_path / "object.pt")
    first, second = rewritten(tmp_path / "object.pt")
    assert type(first) is type(value)
    assert np.all(first == value)
    assert getattr(first, "__dict__", 0) == getattr(value, "__dict__", 0)
    assert first is second


def test_what_is_shared_stays_shared_among_many(tmp_path: Path) -> None:
    values = [[index] for index in range(300)]
    torch.save([*values, *values], tmp_path / "many.pt")
    found = rewritten(tmp_path / "many.pt")
    assert found[299] is found[599]


def test_many_small_records(tmp_path: Path) -> None:
    values = [torch.full((25_000,), float(index)) for index in range(12)]
    torch.save(values, tmp_path / "many.pt")
    assert all(map(torch.equal, rewritten(tmp_path / "many.pt"), values))


def test_sparse_tensors(tmp_path: Path) -> None:
    torch.save([torch.eye(2).to_sparse()], tmp_path / "special.pt")
    (sparse,) = rewritten(tmp_path / "special.pt")
    assert torch.equal(sparse.to_dense(), torch.eye(2))


def test_a_lightning_checkpoint(lightning_file: Path) -> None:
    found = rewritten(lightning_file)
    expected = torch.load(lightning_file, weights_only=False)
    assert list(found) == list(expected)
    weights = found["state_dict"]
    assert weights._metadata == expected["state_dict"]._metadata
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(weights[name], tensor)
        assert weights[name].stride() == tensor.stride()
    # Shared storages, and the one tensor that is in two places.
    weights["0.weight"].zero_()
    assert not weights["tied"].any()
    callback = found["callbacks"]["ModelCheckpoint"]
    assert callback["best_model_score"] is weights["tied"]
    moments = found["optimizer_states"][0]["state"]
    for index, moment in expected["optimizer_states"][0]["state"].items():
        assert torch.equal(moments[index]["exp_avg"], moment["exp_avg"])
    assert found["hyper_parameters"] == expected["hyper_parameters"]


@pytest.mark.parametrize("large", [False, True])
def test_the_layout_is_that_of_torch(lightning_file: Path, large: bool) -> None:
    content = torch.load(lightning_file, weights_only=False)
    if large:
        content = [torch.arange(size) for size in (100_000, 3, 70_001)]
    # A stream has no name, by which torch would call the folder.
    with lightning_file.open("wb") as stream:
        torch.save(content, stream)
    rewritten(lightning_file)
    target = lightning_file.with_name("rewritten.pt")
    with zipfile.ZipFile(lightning_file) as old, zipfile.ZipFile(target) as new:
        assert new.testzip() is None
        assert new.namelist() == old.namelist()
        for ours, theirs in zip(new.infolist(), old.infolist(), strict=True):
            for attribute in (
                "flag_bits",
                "extra",
                "date_time",
                "extract_version",
            ):
                assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert torch.load(target, weights_only=False, mmap=True)
    # torch calculates the places of records from the layout, and checks here
    # that they are where it thinks.
    check = (
        "import sys, torch; from torch.utils.serialization import config\n"
        "config.load.calculate_storage_offsets = True\n"
        "torch.load(sys.argv[1], weights_only=False, mmap=True)\n"
        "torch.load(sys.argv[1], weights_only=False)\n"
    )
    subprocess.run(
        [sys.executable, "-c", check, str(target)],
        env=os.environ | {"TORCH_SERIALIZATION_DEBUG": "1"},
        check=True,
    )


@pytest.mark.parametrize("by_kernel", [True, False])
def test_large_records_are_copied_as_they_are(
    tmp_path: Path, by_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_kernel:
        monkeypatch.delattr(os, "copy_file_range")
    tensors = [torch.arange(size) for size in (100_000, 70_001, 3, 200_000)]
    torch.save(tensors, tmp_path / "large.pt")
    found = rewritten(tmp_path / "large.pt")
    assert all(map(torch.equal, found, tensors))
    with (
        read_checkpoint(tmp_path / "large.pt") as old,
        read_checkpoint(tmp_path / "rewritten.pt") as new,
    ):
        new.archive.verify()
        for name, record in old.archive.records.items():
            if name.startswith("data/"):
                assert new.archive.records[name] == record


@pytest.mark.parametrize("error", [18, 0, 5])
def test_file_systems_between_which_the_kernel_does_not_copy(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> int:
        if error:
            raise OSError(error, "refused")
        return 0

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    torch.save([torch.arange(100_000)], tmp_path / "large.pt")
    assert torch.equal(
        rewritten(tmp_path / "large.pt")[0], torch.arange(100_000)
    )


def test_a_damaged_record_stays_recognisable(lightning_file: Path) -> None:
    content = bytearray(lightning_file.read_bytes())
    with read_checkpoint(lightning_file) as checkpoint:
        content[checkpoint.archive.records["data/0"].start] ^= 1
    lightning_file.write_bytes(content)
    with read_checkpoint(lightning_file) as checkpoint:
        write_checkpoint(checkpoint.data, lightning_file, overwrite=True)
    with (
        read_checkpoint(lightning_file) as checkpoint,
        pytest.raises(CompatError, match="does not have its checksum"),
    ):
        checkpoint.archive.verify()


def test_zip64(lightning_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = [torch.ones(100), torch.ones(1000), torch.ones(3)]
    torch.save(value, lightning_file)
    target = lightning_file.with_name("rewritten.pt")
    with read_checkpoint(lightning_file) as checkpoint:
        # As if what is beyond 2 kB were beyond 4 GB.
        monkeypatch.setattr(zipformat, "ZIP64_FROM", 2000)
        write_checkpoint(checkpoint.data, target)
    assert all(map(torch.equal, torch.load(target), value))
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert any(info.extra for info in archive.infolist())
    with read_checkpoint(target) as checkpoint:
        checkpoint.archive.verify()


def test_only_the_records_of_torch_are_written(
    craft: Any, tmp_path: Path
) -> None:
    path = craft(
        b"\x80\x02N.", {"version": b"2\n", "data/9": b"unused"}, folder="own"
    )
    with read_checkpoint(path) as checkpoint:
        write_checkpoint(checkpoint.data, tmp_path / "new.pt")
    with read_checkpoint(tmp_path / "new.pt") as checkpoint:
        archive = checkpoint.archive
        assert archive.folder == "archive"
        assert list(archive.records) == [
            "data.pkl",
            ".format_version",
            ".storage_alignment",
            "byteorder",
            "version",
            ".data/serialization_id",
        ]
        assert archive.read("version") == b"3\n"
