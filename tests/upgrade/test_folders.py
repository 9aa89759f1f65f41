import errno
import json
import os
import shutil

import pytest

from pytest_nlam_compat.cli import main


@pytest.fixture
def runs(owned, tmp_path):
    """A folder as an experiment leaves it."""
    for name, below in [
        ("0.6.0-graph_lam", "a/best.ckpt"),
        ("0.5.0-graph_lam", "b/best.ckpt"),
        ("0.7.0-graph_lam", "c/best.ckpt"),
    ]:
        file = tmp_path / below
        file.parent.mkdir()
        file.write_bytes(owned(name).checkpoint.read_bytes())
    (tmp_path / "a" / "last.ckpt").symlink_to("best.ckpt")
    (tmp_path / "c" / "notes.txt").write_text("nothing to see")
    return tmp_path


def test_all_checkpoints_of_a_folder(runs, capsys):
    assert main(["upgrade", str(runs)]) == 1
    *table, refused = capsys.readouterr().out.splitlines()
    assert table == [
        "file         from   result",
        "a/best.ckpt  0.6.0  was converted to 0.7.0 in 1 step: "
        "upgraded_best.ckpt",
        "b/best.ckpt  ?      refused (1)",
        "c/best.ckpt  0.7.0  has the layout of 0.7.0 already",
    ]
    assert refused.startswith("(1) b/best.ckpt: Migrating a saved run of ")
    assert "(missing: graph) Pass --graph DIR" in refused
    assert sorted(str(f.relative_to(runs)) for f in runs.rglob("*.ckpt")) == [
        "a/best.ckpt",
        "a/last.ckpt",
        "a/upgraded_best.ckpt",
        "b/best.ckpt",
        "c/best.ckpt",
    ]


def test_a_folder_that_was_upgraded_already(runs, capsys):
    main(["upgrade", str(runs)])
    (runs / "b" / "best.ckpt").unlink()
    capsys.readouterr()
    assert main(["upgrade", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "file         from   result",
        "a/best.ckpt  0.6.0  was converted before: upgraded_best.ckpt",
        "c/best.ckpt  0.7.0  has the layout of 0.7.0 already",
    ]


def test_a_folder_in_place_and_as_json(runs, capsys):
    assert main(["upgrade", str(runs), "--in-place", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["files"]
    assert [row["file"] for row in rows] == [
        str(runs / name / "best.ckpt") for name in "abc"
    ]
    assert rows[0]["backup"] == str(runs / "a" / "best.ckpt.bak")
    assert rows[1]["facts"]["missing"] == "graph"
    assert rows[2]["steps"] == []


def test_a_folder_without_checkpoints(tmp_path, capsys):
    assert main(["upgrade", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(
        "There are no checkpoints below the folder.\n"
        f"  folder: {tmp_path}\n"
        "  expected: files named *.ckpt\n"
    )


def test_one_output_for_a_folder(runs, capsys):
    assert main(["upgrade", str(runs), "-o", "new.ckpt"]) == 1
    error = capsys.readouterr().err
    assert f"  folder: {runs}\n  output: new.ckpt\nLeave -o out" in error


def test_a_distributed_checkpoint_among_others(runs, capsys):
    (runs / "d.ckpt").mkdir()
    (runs / "d.ckpt" / ".metadata").touch()
    assert main(["upgrade", str(runs), "--dry-run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "d.ckpt       ?      refused (2)" in lines
    assert lines[-1].startswith("(2) d.ckpt: The file is a directory, as ")


def test_an_output_that_is_no_checkpoint(runs, capsys):
    """What is said is about the output, not about the good file."""
    for each in "ac":
        (runs / each / "upgraded_best.ckpt").write_text("junk")
    shutil.copy(runs / "a" / "best.ckpt", runs / "c" / "best.ckpt")
    shutil.rmtree(runs / "b")
    assert main(["upgrade", str(runs)]) == 1
    (said,) = [
        line for line in capsys.readouterr().out.splitlines() if line[0] == "("
    ]
    names = "a/best.ckpt, c/best.ckpt"
    assert said.startswith(f"(1) {names}: upgraded_OLD exists already. ")


def test_a_line_for_each_kind_of_refusal(runs, owned, capsys):
    old = owned("0.5.0-hi_lam").checkpoint
    for name in ("d", "e", "f"):
        (runs / name).mkdir()
        (runs / name / "best.ckpt").write_bytes(old.read_bytes())
    (runs / "g.ckpt").touch()
    (runs / "h.ckpt").touch()
    assert main(["upgrade", str(runs), "--dry-run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    kinds = [line.partition(": ")[0] for line in lines if line[0] == "("]
    assert kinds == [
        "(1) b/best.ckpt, d/best.ckpt, e/best.ckpt and 1 more",
        "(2) g.ckpt, h.ckpt",
    ]
    assert "refused" not in "".join(lines[-2:])
    assert [line.split()[-2:] for line in lines if "?" in line][-1] == [
        "refused",
        "(2)",
    ]


@pytest.mark.parametrize(
    ("name", "file"),
    [("d.ckpt", "x"), ("d", ".metadata"), ("d", "zero_to_fp32.py")],
)
def test_a_distributed_checkpoint_alone(tmp_path, name, file, capsys):
    folder = tmp_path / name
    folder.mkdir()
    (folder / file).touch()
    assert main(["upgrade", str(folder)]) == 1
    assert capsys.readouterr().err.startswith(
        f"{name} is a directory, as distributed checkpoints are.\n"
    )


def test_files_that_macos_adds_are_no_checkpoints(runs, capsys):
    (runs / "a" / "._best.ckpt").write_bytes(b"\0\5\x16\7")
    main(["upgrade", str(runs), "--dry-run"])
    assert "._" not in capsys.readouterr().out


def test_a_folder_that_can_not_be_read_is_an_error(runs, monkeypatch, capsys):
    secret = runs / "secret"
    secret.mkdir()
    real = os.listdir, os.scandir

    def refuse(path, call):
        # For root, as whom tests run in a container, nothing is unreadable.
        if os.fspath(path) == str(secret):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return call(path)

    monkeypatch.setattr(os, "listdir", lambda p=".": refuse(p, real[0]))
    monkeypatch.setattr(os, "scandir", lambda p=".": refuse(p, real[1]))
    assert main(["upgrade", str(runs)]) == 1
    error = capsys.readouterr().err
    assert f"  file: {secret}\n  cause: Permission denied\n" in error
    assert not list(runs.rglob("upgraded_*"))
