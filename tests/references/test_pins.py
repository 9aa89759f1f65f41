"""Folders of pinned references: what is opened, and what is refused."""

import os
import shutil

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.pins import PinFolder, open_file

NAME = "0.7.0-production"


@pytest.fixture
def pinned(pinned_like):
    return pinned_like("0.7.0-graph_lam")


def test_it_holds_what_was_pinned(pinned, reference_of, tmp_path):
    reference = PinFolder(pinned).open(NAME)
    like = reference_of("0.7.0-graph_lam")
    assert reference.id == NAME
    assert reference.state_dict.keys() == like.state_dict.keys()
    for name, tensor in like.state_dict.items():
        assert torch.equal(reference.state_dict[name], tensor)
    written = reference.write(tmp_path / "written")
    assert written.read_bytes() == (pinned / f"{NAME}.ckpt").read_bytes()
    assert reference.graph_folder(written.parent).is_dir()
    # Not a second time on the disk.
    assert written.is_symlink()


def test_it_is_found_by_either_file(pinned):
    for end in ("zip", "ckpt"):
        assert open_file(pinned / f"{NAME}.{end}").id == NAME


def test_nothing_is_written_beside_it(pinned):
    before = sorted(pinned.iterdir())
    pinned.chmod(0o555)
    try:
        PinFolder(pinned).open(NAME)
    finally:
        pinned.chmod(0o755)
    assert sorted(pinned.iterdir()) == before


@pytest.mark.parametrize("end", ["zip", "ckpt"])
def test_changed_bytes_are_refused(pinned, end):
    path = pinned / f"{NAME}.{end}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CompatError, match="not what was pinned") as error:
        open_file(path)
    assert error.value.facts["file"] == path
    assert "Restore the folder" in error.value.remedy


def test_missing_weights_are_named(pinned):
    (pinned / f"{NAME}.ckpt").unlink()
    with pytest.raises(CompatError, match=rf"has no {NAME}\.ckpt"):
        open_file(pinned / f"{NAME}.zip")


def test_an_unlisted_archive_is_refused(pinned):
    shutil.copy(pinned / f"{NAME}.zip", pinned / "0.7.0-other.zip")
    with pytest.raises(CompatError, match="doesn't list") as error:
        PinFolder(pinned)
    assert error.value.facts["not listed"] == "0.7.0-other.zip"


def test_a_registry_names_no_files_elsewhere(pinned):
    with (pinned / "registry.txt").open("a") as file:
        file.write(f"../0.7.0-x.zip sha256:{'0' * 64}\n")
    with pytest.raises(CompatError, match="not the name of a file beside it"):
        PinFolder(pinned)


def test_another_folder_is_no_folder_of_them(tmp_path):
    with pytest.raises(CompatError, match="no pinned references"):
        PinFolder(tmp_path)
    with pytest.raises(CompatError, match="no pinned references"):
        open_file(tmp_path / "0.7.0-x.zip")


def test_the_folder_is_none_of_its_references(pinned):
    with pytest.raises(CompatError, match=f"in it: {NAME}.zip"):
        open_file(pinned)


def test_a_pickle_that_names_other_classes_is_not_for_the_own_loader(pinned):
    path = pinned / f"{NAME}.ckpt"

    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Evil()}, path)
    lines = (pinned / "registry.txt").read_text().splitlines()
    hashed = f"{path.name} sha256:{registry.sha256_of(path)}"
    (pinned / "registry.txt").write_text("\n".join([*lines[:-1], hashed]))
    with pytest.raises(CompatError, match="names classes") as error:
        open_file(path)
    assert "system" in error.value.facts["unknown"]
