import json
import os
import subprocess
import sys

import pytest
import torch

from pytest_nlam_compat.checkpoints import writer
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.cli import main
from pytest_nlam_compat.files import drafts
from pytest_nlam_compat.upgrade import output as outputs

ONLY_RENAMED = "0.6.0-graph_lam"


@pytest.fixture
def old(owned, tmp_path):
    """A checkpoint of 0.6.0, which needs no graph and no statistics."""
    file = tmp_path / "old.ckpt"
    file.write_bytes(owned(ONLY_RENAMED).checkpoint.read_bytes())
    return file


def upgrade(*arguments):
    return main(["upgrade", *map(str, arguments)])


def everything(case, folder):
    return (
        *(case.checkpoint, "-o", folder / "new.ckpt"),
        *("--graph", case.graph, "--graph-out", folder / "graph"),
        *("--statistics", case.statistics),
    )


def record_of(file):
    with read_checkpoint(file) as checkpoint:
        return checkpoint.data["nlam_compat"]


def test_a_file_without_weights(tmp_path, capsys):
    file = tmp_path / "list.pt"
    torch.save([1], file)
    assert upgrade(file) == 1
    err = capsys.readouterr().err
    assert "list.pt is not a checkpoint of Lightning" in err


def test_in_place_keeps_the_old_file(old, capsys):
    before = old.read_bytes()
    assert upgrade(old, "--in-place") == 0
    backup = old.with_name("old.ckpt.bak")
    assert backup.read_bytes() == before
    assert record_of(old)["layout"] == "0.7.0"
    assert sorted(old.parent.iterdir()) == [old, backup]
    out = capsys.readouterr().out
    assert f"checkpoint: {old}\nbackup: {backup}\n" in out


def test_in_place_keeps_group_and_mode(old):
    group = os.getgid()
    if os.geteuid() == 0:
        group = 4321
        os.chown(old, -1, group)
    old.chmod(0o640)
    assert upgrade(old, "--in-place") == 0
    assert (old.stat().st_gid, old.stat().st_mode & 0o777) == (group, 0o640)


@pytest.fixture
def interrupted_when_placed(monkeypatch):
    """Press Ctrl-C once the new file has its name."""

    def press(folder):
        # Not of a graph's directory, which is written before.
        if list(folder.glob("*.ckpt")):
            raise KeyboardInterrupt

    monkeypatch.setattr(drafts, "_sync_folder", press)


def test_an_interrupt_once_it_is_in_place_keeps_the_old_file(
    old, interrupted_when_placed
):
    before = old.read_bytes()
    assert upgrade(old, "--in-place") == 130
    assert record_of(old)["layout"] == "0.7.0"
    assert old.with_name("old.ckpt.bak").read_bytes() == before


def test_an_interrupt_once_it_is_in_place_keeps_its_graph(
    owned, tmp_path, interrupted_when_placed
):
    assert upgrade(*everything(owned("0.3.0-graph_lam"), tmp_path)) == 130
    assert record_of(tmp_path / "new.ckpt")["layout"] == "0.7.0"
    assert any((tmp_path / "graph").iterdir())


def test_a_folder_that_cannot_be_synced_is_no_failure(old, monkeypatch):
    sync = os.fsync

    def only_files(descriptor):
        if os.path.isdir(f"/dev/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    assert upgrade(old) == 0
    assert record_of(old.with_name("upgraded_old.ckpt"))["layout"] == "0.7.0"


def test_in_place_through_a_link(old):
    link = old.with_name("last.ckpt")
    link.symlink_to(old.name)
    assert upgrade(link, "--in-place") == 0
    assert link.is_symlink()
    assert record_of(old)["layout"] == "0.7.0"
    assert old.with_name("old.ckpt.bak").exists()


def test_another_backup_is_not_lost(old, capsys):
    backup = old.with_name("old.ckpt.bak")
    backup.write_text("precious")
    before = old.read_bytes()
    assert upgrade(old, "--in-place") == 1
    assert capsys.readouterr().err.startswith(
        f"The backup old.ckpt.bak exists already.\n  file: {backup}\n"
    )
    assert (old.read_bytes(), backup.read_text()) == (before, "precious")


@pytest.mark.parametrize("late", [False, True])
def test_a_refused_upgrade_leaves_no_graph(
    owned, tmp_path, monkeypatch, late, capsys
):
    """Also if another one has replaced the file in the meantime."""
    case, file = owned("0.5.0-graph_lam"), tmp_path / "old.ckpt"
    file.write_bytes(case.checkpoint.read_bytes())
    backup, back_up = tmp_path / "old.ckpt.bak", outputs._back_up

    def replace_and_back_up(*arguments):
        backup.write_bytes(file.read_bytes())
        (tmp_path / "theirs").write_bytes(b"theirs")
        (tmp_path / "theirs").replace(file)
        return back_up(*arguments)

    if late:
        monkeypatch.setattr(outputs, "_back_up", replace_and_back_up)
    else:
        backup.write_bytes(b"precious")
    graph = ("--graph", case.graph, "--graph-out", tmp_path / "new" / "1level")
    assert upgrade(file, "--in-place", *graph) == 1
    assert "old.ckpt.bak exists already" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [file, backup]


def test_an_output_and_in_place(old, tmp_path, capsys):
    assert upgrade(old, "--in-place", "-o", tmp_path / "new.ckpt") == 2
    assert "-o: not allowed with argument --in-place" in capsys.readouterr().err


def test_nothing_is_overwritten(old, tmp_path, capsys):
    new = tmp_path / "new.ckpt"
    new.write_text("precious")
    assert upgrade(old, "-o", new) == 1
    assert capsys.readouterr().err == (
        "new.ckpt exists already.\n"
        f"  file: {new}\n"
        "Choose another path for the output, or move the file.\n"
    )
    assert new.read_text() == "precious"


@pytest.mark.parametrize("link", [False, True])
def test_an_output_equal_to_the_input(old, tmp_path, capsys, link):
    before = old.read_bytes()
    output = old
    if link:
        output = tmp_path / "link.ckpt"
        output.symlink_to(old)
    assert upgrade(old, "-o", output) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "The output is the checkpoint itself.\n"
        f"  file: {old}\n"
        f"  output: {output}\n"
    )
    assert "--in-place" in error
    assert old.read_bytes() == before


def test_a_dry_run_writes_nothing(owned, tmp_path, capsys):
    case = owned("0.3.0-graph_lam")
    assert upgrade(*everything(case, tmp_path), "--dry-run", "--json") == 0
    assert list(tmp_path.iterdir()) == []
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"] is True
    assert said["steps"][-1] == "0.7.0-forecaster"
    assert said["output"] == str(tmp_path / "new.ckpt")
    assert said["graph_out"] == str(tmp_path / "graph")


def test_what_a_step_needs_is_reported(owned, tmp_path, capsys):
    case = owned("0.3.0-graph_lam")
    assert upgrade(case.checkpoint, "-o", tmp_path / "new.ckpt") == 1
    lines = capsys.readouterr().err.splitlines()
    assert "0.3.0" in lines[0]
    assert lines[1] == "  missing: graph, statistics"
    assert lines[2].startswith("  step 0.4.0-static-standardised: The static")
    assert lines[-1].startswith(
        "Pass --graph DIR (with --graph-out DIR) and --statistics FILE or "
        "--datastore CONFIG"
    )


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_an_unknown_release(old, option, capsys):
    assert upgrade(old, option, "0.6.1") == 2
    error = capsys.readouterr().err
    assert f"argument {option}: invalid choice: '0.6.1' (choose" in error
    assert "0.6.0" in error


def test_from_does_not_repeat_an_upgrade(old, capsys):
    upgrade(old, "--in-place")
    capsys.readouterr()
    assert upgrade(old, "--from", "0.5.0") == 1
    error = capsys.readouterr().err
    assert error.startswith("neural-lam 0.5.0 did not write this checkpoint.")
    assert "  migrated to 0.7.0 before: 0.7.0\nLeave --from out" in error


def test_no_permission_to_write(old, capsys):
    # Root may write anywhere; nobody may below a file.
    output = old / "new.ckpt"
    before = old.read_bytes()
    assert upgrade(old, "-o", output) == 1
    assert capsys.readouterr().err.startswith(
        "new.ckpt can't be written.\n"
        f"  file: {output}\n"
        "  cause: Not a directory\n"
        "Nothing was changed. "
    )
    assert old.read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--in-place"]])
def test_a_full_disk(old, options):
    """No file may get as large as the new one would."""
    before = old.read_bytes()
    code = (
        "import resource, sys; from pytest_nlam_compat.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "upgrade", old, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    name = "old.ckpt" if options else "upgraded_old.ckpt"
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"{name} can't be written.\n"
        f"  file: {old.with_name(name)}\n"
        "  cause: File too large\n"
        "Nothing was changed. "
    )
    assert os.listdir(old.parent) == ["old.ckpt"]
    assert old.read_bytes() == before


def flipped(file):
    """Flip a bit in the first weights, which are those of grid_embedder.0."""
    with read_checkpoint(file) as checkpoint:
        weight = checkpoint.data["state_dict"]["grid_embedder.0.weight"]
        record = checkpoint.archive.records[weight.storage.record]
    content = bytearray(file.read_bytes())
    content[record.start] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("command", ["inspect", "upgrade"])
def test_a_flipped_bit_is_found_when_all_is_read(old, command, capsys):
    flipped(old)
    before = old.read_bytes()
    assert main([command, str(old), "--verify"]) == 1
    assert capsys.readouterr().err.startswith(
        "old.ckpt is damaged: a record does not have its checksum.\n"
        f"  file: {old}\n"
        "  record: data/7\n"
    )
    assert os.listdir(old.parent) == ["old.ckpt"]
    assert old.read_bytes() == before


def test_a_flipped_bit_in_a_tensor_that_a_step_needs(owned, tmp_path, capsys):
    case = owned("0.3.0-graph_lam")
    old = tmp_path / "old.ckpt"
    old.write_bytes(case.checkpoint.read_bytes())
    flipped(old)
    arguments = everything(case, tmp_path)[1:]
    assert upgrade(old, *arguments) == 1
    assert "does not have its checksum" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["old.ckpt"]


def test_a_copied_flipped_bit_still_shows(old, tmp_path):
    flipped(old)
    assert upgrade(old) == 0
    new = tmp_path / "upgraded_old.ckpt"
    assert main(["inspect", str(new), "--verify"]) == 1


@pytest.mark.parametrize("command", ["inspect", "upgrade"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short(old, command, share, capsys):
    old.write_bytes(old.read_bytes()[: int(share * old.stat().st_size)])
    before = old.read_bytes()
    assert main([command, str(old)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("old.ckpt ")
    assert f"  file: {old}\n" in error
    assert os.listdir(old.parent) == ["old.ckpt"]
    assert old.read_bytes() == before


@pytest.mark.parametrize("command", ["inspect", "upgrade"])
def test_a_file_that_does_not_exist(tmp_path, command, capsys):
    file = tmp_path / "none.ckpt"
    assert main([command, str(file)]) == 1
    assert capsys.readouterr().err.startswith(
        "none.ckpt can't be opened.\n"
        f"  file: {file}\n"
        "  cause: No such file or directory\n"
    )


def test_no_graph_is_left_without_its_checkpoint(owned, tmp_path, capsys):
    case = owned("0.1.0-graph_lam")
    arguments = list(everything(case, tmp_path))
    arguments[2] = tmp_path / "no" / "such" / "new.ckpt"
    assert upgrade(*arguments) == 1
    assert capsys.readouterr().err.startswith("new.ckpt can't be written.\n")
    assert os.listdir(tmp_path) == []
    # One that was there before, and is the same, stays.
    arguments[2] = tmp_path / "new.ckpt"
    assert upgrade(*arguments) == 0
    arguments[2] = tmp_path / "no" / "such" / "new.ckpt"
    assert upgrade(*arguments) == 1
    assert sorted(os.listdir(tmp_path)) == ["graph", "new.ckpt"]


def test_a_link_to_nothing_in_place_of_the_output(old, tmp_path, capsys):
    folder = tmp_path / "runs"
    folder.mkdir()
    old = old.rename(folder / "old.ckpt")
    link = folder / "upgraded_old.ckpt"
    link.symlink_to(tmp_path / "elsewhere.ckpt")
    assert upgrade(folder) == 1
    assert "exists" in capsys.readouterr().out
    assert upgrade(old) == 1
    assert "upgraded_old.ckpt exists already." in capsys.readouterr().err
    assert upgrade(old, "-o", link) == 1
    assert not (tmp_path / "elsewhere.ckpt").exists()


def overwrite(file):
    content = file.read_bytes()
    file.write_bytes(content[:-200] + bytes(200))


def replace(file):
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


IN_PLACE = replace, ["--in-place"]


def append(file):
    times = file.stat()
    with file.open("ab") as stream:
        stream.write(b"\0")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [overwrite, replace, append])
@pytest.mark.parametrize("options", [[], ["--in-place"], ["--to", "0.6.0"]])
def test_a_source_that_changes_meanwhile(
    change, options, old, monkeypatch, capsys
):
    if "--to" in options:  # it has that layout, and is copied
        options = [*options, "-o", old.with_name("new.ckpt")]
    real = writer.Archive.refuse_changed

    def changed_before(archive):
        monkeypatch.undo()
        change(old)
        real(archive)

    monkeypatch.setattr(writer.Archive, "refuse_changed", changed_before)
    assert upgrade(old, *options) == 1
    assert "changed while it was read" in capsys.readouterr().err
    names = {file.name for file in old.parent.iterdir()}
    # Which of the two files at that name is wanted is the user's to say.
    kept = {"old.ckpt.bak"} if (change, options) == IN_PLACE else set()
    assert names == {"old.ckpt"} | kept


def test_what_a_killed_upgrade_left_is_removed_where_it_was_done(old):
    assert upgrade(old) == 0
    part = old.with_name(".upgraded_old.ckpt.1a2b3c4d.part")
    for path in (old, old.parent):
        part.write_bytes(b"half")
        upgrade(path)
        assert not part.exists()
