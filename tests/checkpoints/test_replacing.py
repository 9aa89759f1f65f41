"""A file is written whole or not at all, and none is lost."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nlam_compat.checkpoints import writer
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError


def test_no_file_is_overwritten_unasked(lightning_file: Path) -> None:
    before = lightning_file.read_bytes()
    with read_checkpoint(lightning_file) as checkpoint:
        with pytest.raises(CompatError, match=r"^model.ckpt exists already"):
            write_checkpoint(checkpoint.data, lightning_file)
        assert lightning_file.read_bytes() == before


def test_a_file_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def appear(*_: Any) -> None:
        (tmp_path / "new.pt").write_bytes(b"other")

    monkeypatch.setattr(writer, "_write_records", appear)
    with pytest.raises(CompatError, match=r"^new.pt exists already"):
        write_checkpoint([1], tmp_path / "new.pt")
    assert (tmp_path / "new.pt").read_bytes() == b"other"
    assert len(list(tmp_path.iterdir())) == 1


def test_writing_over_the_file_itself_and_through_a_link(
    lightning_file: Path,
) -> None:
    lightning_file.chmod(0o640)
    link = lightning_file.with_name("last.ckpt")
    link.symlink_to(lightning_file)
    with read_checkpoint(link) as checkpoint:
        checkpoint.data["epoch"] = 7
        write_checkpoint(checkpoint.data, link, overwrite=True)
        # The old file is still there for those who have it open.
        refs = checkpoint.data["state_dict"]
        assert {name: ref.load() for name, ref in refs.items()}
    assert link.is_symlink()
    assert stat.S_IMODE(lightning_file.stat().st_mode) == 0o640
    assert torch.load(lightning_file, weights_only=False)["epoch"] == 7
    assert len(list(lightning_file.parent.iterdir())) == 2


def test_a_disk_that_is_full(
    lightning_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = lightning_file.read_bytes()
    monkeypatch.setattr(writer, "_write_records", full)
    with read_checkpoint(lightning_file) as checkpoint:
        with pytest.raises(CompatError) as caught:
            write_checkpoint(checkpoint.data, lightning_file, overwrite=True)
        assert str(caught.value) == (
            "model.ckpt can't be written.\n"
            f"  file: {lightning_file}\n"
            "  cause: No space left on device\n"
            "Nothing was changed. Make room or fix the permissions of its "
            "folder, and try again."
        )
    assert lightning_file.read_bytes() == before
    assert len(list(lightning_file.parent.iterdir())) == 1


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CompatError, match="No such file or directory"):
        write_checkpoint([1], tmp_path / "no" / "new.pt")


def test_the_source_was_closed(lightning_file: Path) -> None:
    with read_checkpoint(lightning_file) as checkpoint:
        pass
    with pytest.raises(CompatError, match="has been closed already"):
        write_checkpoint(checkpoint.data, lightning_file.with_name("new.ckpt"))
    assert len(list(lightning_file.parent.iterdir())) == 1
