"""A copy that begins early changes nothing but the time."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nlam_compat.checkpoints import head_start as module
from pytest_nlam_compat.checkpoints.head_start import SHIFT, HeadStart, begin
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError

# Of which the larger ones are copied by the kernel: those of 256 kB and more.
SIZES = (3, 100_000, 70_001, 5, 1_000_000, 300_000, 7, 90_000)


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 1)
    # So that there are several, for the thread and for its helper.
    monkeypatch.setattr(module, "_PIECE", 1_000_000)
    monkeypatch.setattr(module, "_LAST_PIECES", 500_000)
    monkeypatch.setattr(module, "_WINDOW", 256 * 1024)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    values = {f"t{i}": torch.rand(size) for i, size in enumerate(SIZES)}
    path = tmp_path / "old.pt"
    torch.save(values, path)
    return path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new.pt"


@pytest.fixture
def begun(old: Path, new: Path) -> Iterator[HeadStart]:
    head_start = begin(old, new)
    assert head_start is not None
    yield head_start
    head_start.close()


def rewrite(
    old: Path,
    new: Path,
    head_start: HeadStart,
    change: Callable[[dict[str, Any]], None] = lambda data: None,
) -> dict[str, Any]:
    """Write, and return what is right; the checksums are looked at here."""
    expected = torch.load(old, weights_only=False)
    change(expected)
    with read_checkpoint(old) as checkpoint:
        change(checkpoint.data)
        write_checkpoint(checkpoint, new, head_start=head_start)
    with read_checkpoint(new) as checkpoint:
        checkpoint.archive.verify()
    return expected


def assert_same(new: Path, expected: dict[str, Any]) -> None:
    for mapped in (False, True):
        found = torch.load(new, weights_only=False, mmap=mapped)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


def moved(old: Path, new: Path) -> set[int]:
    """How much further on the large records of a file are than before."""
    with read_checkpoint(old) as first, read_checkpoint(new) as second:
        return {
            second.archive.records[f"data/{key}"].start
            - first.archive.records[f"data/{key}"].start
            for key, size in enumerate(SIZES)
            if size > 66_000
        }


def test_the_new_file_is_the_same(
    old: Path, new: Path, begun: HeadStart
) -> None:
    assert_same(new, rewrite(old, new, begun))
    assert moved(old, new) == {SHIFT}
    assert sorted(old.parent.iterdir()) == [new, old]


def test_nothing_is_left_to_be_copied_in_the_end(
    old: Path, new: Path, begun: HeadStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun._thread.join()
    # The kernel copied all of it; nothing does it again.
    monkeypatch.delattr(os, "copy_file_range")
    monkeypatch.setattr(
        "pytest_nlam_compat.checkpoints.archive.Archive.read_at", None
    )
    assert_same(new, rewrite(old, new, begun))


@pytest.mark.parametrize("count", [1, 200])
def test_names_that_get_longer(
    old: Path, new: Path, begun: HeadStart, count: int
) -> None:
    def rename(data: dict[str, Any]) -> None:
        for name in list(data):
            data[name + "x" * count * 5] = data.pop(name)

    assert_same(new, rewrite(old, new, begun, rename))
    assert moved(old, new) == {SHIFT}


def test_names_for_which_the_room_is_too_small(
    old: Path, new: Path, begun: HeadStart
) -> None:
    def much(data: dict[str, Any]) -> None:
        for name in list(data):
            data[name + "x" * 4000] = data.pop(name)
        for index in range(20):
            data[f"{index}{'y' * 4000}"] = torch.zeros(1)

    assert_same(new, rewrite(old, new, begun, much))
    assert SHIFT not in moved(old, new)


def test_new_tensors_between_the_old(
    old: Path, new: Path, begun: HeadStart
) -> None:
    def insert(data: dict[str, Any]) -> None:
        # Enough to reach beyond the room, in front of the last large one.
        data["t6"] = torch.arange(30_000.0)

    assert_same(new, rewrite(old, new, begun, insert))
    assert moved(old, new) == {SHIFT}


def test_large_new_tensors_and_fewer(
    old: Path, new: Path, begun: HeadStart
) -> None:
    def change(data: dict[str, Any]) -> None:
        del data["t1"], data["t5"]
        data["t4"] = torch.arange(500_000)

    assert_same(new, rewrite(old, new, begun, change))


def test_a_file_that_gets_shorter(
    old: Path, new: Path, begun: HeadStart
) -> None:
    def change(data: dict[str, Any]) -> None:
        for name in list(data)[1:]:
            del data[name]

    begun._thread.join()
    assert_same(new, rewrite(old, new, begun, change))
    assert new.stat().st_size < 100_000


def test_a_copy_that_breaks_off(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = os.copy_file_range
    calls = []

    def break_off(*arguments: int) -> int:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(18, "refused")
        return copy(*arguments)

    monkeypatch.setattr(os, "copy_file_range", break_off)
    head_start = begin(old, new)
    assert head_start is not None
    head_start._thread.join()
    assert head_start.done == 1_000_000
    assert_same(new, rewrite(old, new, head_start))
    assert moved(old, new) == {SHIFT}
    head_start.close()


@pytest.mark.parametrize("failure", ["refused", "short"])
def test_a_helper_that_fails(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    monkeypatch.setattr(module, "_core_is_free", lambda: True)
    # A thread that does nothing, until its helper has given up.
    waits = threading.Event()
    monkeypatch.setattr(HeadStart, "_work", lambda _: waits.wait())

    class Refusing(mmap.mmap):
        def madvise(self, *_: int) -> None:
            waits.set()
            raise OSError(22, "refused")

    if failure == "refused":
        monkeypatch.setattr(mmap, "mmap", Refusing)
    else:
        monkeypatch.setattr(os, "preadv", lambda *_: waits.set() or 1)
    head_start = begin(old, new)
    assert head_start is not None
    assert_same(new, rewrite(old, new, head_start))
    head_start.close()


def test_only_the_helper(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thread that does nothing, until its helper has done all.
    waits = threading.Event()
    monkeypatch.setattr(HeadStart, "_work", lambda _: waits.wait())
    head_start = begin(old, new)
    assert head_start is not None

    def core_is_free() -> bool:
        if head_start._end == 0:
            waits.set()
        return True

    monkeypatch.setattr(module, "_core_is_free", core_is_free)
    assert_same(new, rewrite(old, new, head_start))
    assert head_start.done > 6_000_000
    head_start.close()


@pytest.mark.parametrize(
    ("cores", "load", "free"),
    [
        ({0, 1}, "0.1 0.1 0.1 2/300 1", True),
        ({0, 1}, "0.1 0.1 0.1 3/300 1", False),
        ({0}, "0.1 0.1 0.1 1/300 1", False),
        ({0, 1}, "of another system", False),
    ],
)
def test_when_a_core_is_free(
    cores: set[int], load: str, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(Path, "read_text", lambda _: load)
    assert module._core_is_free() is free


def test_where_no_core_is_free_it_does_not_help(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_core_is_free", lambda: False)
    monkeypatch.setattr(mmap, "mmap", None)
    head_start = begin(old, new)
    assert head_start is not None
    assert_same(new, rewrite(old, new, head_start))
    head_start.close()


def test_a_file_that_changed_meanwhile_is_copied_again(
    old: Path, new: Path, begun: HeadStart
) -> None:
    begun._thread.join()
    values = {f"t{i}": torch.rand(size) for i, size in enumerate(SIZES)}
    torch.save(values, old)
    assert_same(new, rewrite(old, new, begun))
    assert_same(new, values)


def test_another_file_of_the_same_content_is_not_mistaken(
    old: Path, new: Path, begun: HeadStart
) -> None:
    other = old.with_name("other.pt")
    torch.save(torch.load(old), other)
    assert_same(new, rewrite(other, new, begun))


def test_progress_is_told_to_the_end(
    old: Path, new: Path, begun: HeadStart
) -> None:
    told: list[tuple[int, int]] = []
    with read_checkpoint(old) as checkpoint:
        write_checkpoint(
            checkpoint,
            new,
            head_start=begun,
            progress=lambda done, whole: told.append((done, whole)),
        )
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_what_is_given_up_leaves_nothing(old: Path, new: Path) -> None:
    head_start = begin(old, new)
    assert head_start is not None
    assert len(list(old.parent.iterdir())) == 2
    head_start.close()
    assert list(old.parent.iterdir()) == [old]


def test_a_target_that_came_meanwhile_is_not_replaced(
    old: Path, new: Path, begun: HeadStart
) -> None:
    new.write_text("precious")
    with pytest.raises(CompatError, match=r"^new\.pt is there already"):
        rewrite(old, new, begun)
    assert new.read_text() == "precious"


@pytest.mark.parametrize("what", ["small", "other", "folder", "none", "pipe"])
def test_what_is_not_worth_it(
    old: Path, new: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "small":
        monkeypatch.setattr(module, "_LARGE", old.stat().st_size + 1)
    elif what == "other":
        old.write_bytes(b"x" * 1000)
    else:
        old.unlink()
    if what == "folder":
        old.mkdir()
    elif what == "pipe":
        os.mkfifo(old)
    assert begin(old, new) is None
    assert list(old.parent.iterdir()) == ([old] if what != "none" else [])


def test_where_nothing_can_be_written(old: Path) -> None:
    assert begin(old, old / "new.pt") is None


def test_where_the_kernel_does_not_copy(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    assert begin(old, new) is None
