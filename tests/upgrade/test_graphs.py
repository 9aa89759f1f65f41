import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade import graphs
from pytest_nlam_compat.upgrade.output import OutputFile

NAME = "0.5.0-graph_lam-square"


@pytest.fixture
def graph(owned, tmp_path):
    """A copy of the graph directory, to be changed."""
    copied = tmp_path / owned(NAME).graph.name
    shutil.copytree(owned(NAME).graph, copied)
    return copied


def upgrade(case, folder, graph, *arguments):
    return main(
        [
            *("upgrade", str(case.checkpoint), "-o", str(folder / "new.ckpt")),
            *("--graph", str(graph), *map(str, arguments)),
        ]
    )


def refused(capsys):
    """Return the facts of the refusal of a graph."""
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "The graph does not belong to the checkpoint."
    return dict(line.strip().split(": ", 1) for line in lines[1:-1])


def spoil(graph, stem, function):
    file = graph / f"{stem}.pt"
    torch.save(function(torch.load(file)), file)


def test_a_graph_that_changes_needs_an_output(owned, tmp_path, graph, capsys):
    assert upgrade(owned(NAME), tmp_path, graph) == 1
    error = capsys.readouterr().err
    assert f"  graph: {graph}\n  changes: g2m_edge_index.pt\n" in error
    assert "--graph-out" in error
    assert list(tmp_path.iterdir()) == [graph]


def test_only_the_changed_file_changes(owned, tmp_path, graph):
    out = tmp_path / "out"
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 0
    differing = {
        file.name
        for file in graph.iterdir()
        if file.read_bytes() != (out / file.name).read_bytes()
    }
    assert differing == {"g2m_edge_index.pt"}
    old, new = (torch.load(each / "g2m_edge_index.pt") for each in (graph, out))
    first = int(old[0].min()) - len(torch.load(graph / "mesh_features.pt")[0])
    assert first > 0
    assert torch.equal(new, old - torch.tensor([[first], [0]]))


def test_an_unchanged_graph_needs_no_output(owned, tmp_path, capsys):
    case = owned("0.5.0-graph_lam")
    if upgrade(case, tmp_path, case.graph, "--dry-run") == 0:
        assert capsys.readouterr().out.endswith(
            f"The graph is unchanged: {case.graph}.\n"
        )
    else:
        assert "g2m_edge_index.pt" in capsys.readouterr().err


def test_twice_to_the_same_output(owned, tmp_path, graph):
    out = tmp_path / "out"
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 0
    (tmp_path / "new.ckpt").unlink()
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 0


def test_another_graph_is_not_overwritten(owned, tmp_path, graph, capsys):
    case = owned(NAME)
    assert upgrade(case, tmp_path, graph, "--graph-out", graph) == 1
    assert capsys.readouterr().err.endswith(
        f"  directory: {graph}\nChoose another --graph-out.\n"
    )
    assert list(tmp_path.iterdir()) == [graph]


def test_an_empty_output_directory_is_used(owned, tmp_path, graph, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", ".") == 0
    assert {each.name for each in out.iterdir()} == {
        each.name for each in graph.iterdir()
    }
    assert {each.name for each in tmp_path.iterdir()} == {
        *(graph.name, "new.ckpt", "out"),
    }


def test_files_that_macos_adds_are_left_out(owned, tmp_path, graph):
    (graph / "._g2m_features.pt").write_bytes(b"\0\5\x16\7")
    out = tmp_path / "out"
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 0
    assert not (out / "._g2m_features.pt").exists()
    assert (out / "g2m_features.pt").exists()


def test_a_folder_without_a_graph(owned, tmp_path, capsys):
    assert upgrade(owned(NAME), tmp_path, tmp_path) == 1
    assert capsys.readouterr().err.startswith(
        "There is no graph in the directory.\n"
        f"  directory: {tmp_path}\n"
        "  expected: g2m_edge_index.pt, ...\n"
    )


def test_a_graph_file_with_more_than_tensors(owned, tmp_path, graph, capsys):
    spoil(graph, "m2m_features", lambda content: {"features": content})
    assert upgrade(owned(NAME), tmp_path, graph) == 1
    error = capsys.readouterr().err
    assert "m2m_features.pt is not a graph file" in error
    assert f"  file: {graph / 'm2m_features.pt'}\n" in error


@pytest.mark.parametrize(
    ("stem", "function", "compared", "difference"),
    [
        (
            "g2m_features",
            lambda t: t[1:],
            "edges in g2m_features.pt and g2m_edge_index.pt",
            -1,
        ),
        (
            "m2g_edge_index",
            lambda t: t[:, :-2],
            "edges in m2g_features.pt and m2g_edge_index.pt",
            2,
        ),
        (
            "m2g_features",
            lambda t: torch.cat((t, t[:, :1]), 1),
            "features in m2g_features.pt and its embedder",
            1,
        ),
        ("mesh_features", lambda levels: levels * 2, "mesh levels", 1),
    ],
)
def test_a_graph_of_another_run(
    stem, function, compared, difference, owned, tmp_path, graph, capsys
):
    spoil(graph, stem, function)
    assert upgrade(owned(NAME), tmp_path, graph) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "The graph does not belong to the checkpoint.",
        f"  directory: {graph}",
        f"  compared: {compared}",
    ]
    found, expected = (int(line.split(": ")[1]) for line in lines[3:5])
    assert found - expected == difference
    assert list(tmp_path.iterdir()) == [graph]


@pytest.mark.parametrize("stem", ["g2m_edge_index", "m2g_edge_index"])
@pytest.mark.parametrize(
    "function",
    [
        lambda t: t[:, :0],
        lambda t: t[:1],
        lambda t: t[0],
        lambda t: t[0, 0],
        lambda t: t.float(),
    ],
)
def test_edges_that_are_none(stem, function, owned, tmp_path, graph, capsys):
    """As long as their features, which says nothing of their shape."""
    spoil(graph, stem, lambda t: function(t).clone())
    features = stem.replace("edge_index", "features")
    if torch.load(graph / f"{stem}.pt").numel() < 2:
        spoil(graph, features, lambda t: t[:0])
    assert upgrade(owned(NAME), tmp_path, graph) == 1
    facts = refused(capsys)
    assert facts["compared"] == f"type and shape of {stem}.pt"
    assert facts["expected"].startswith("('int64', (2, ")


def test_the_graph_of_another_model(owned, tmp_path, capsys):
    case = owned("0.5.0-hi_lam")
    assert upgrade(case, tmp_path, owned(NAME).graph) == 1
    assert "  compared: mesh levels\n  found: 1\n  expected: 2\n" in (
        capsys.readouterr().err
    )


def test_a_graph_without_a_file(owned, tmp_path, graph, capsys):
    (graph / "g2m_features.pt").unlink()
    assert upgrade(owned(NAME), tmp_path, graph) == 1
    assert capsys.readouterr().err.startswith(
        "The graph does not belong to the checkpoint.\n"
        f"  directory: {graph}\n"
        "  compared: files\n"
        "  found: no single tensor in g2m_features.pt\n"
        "  expected: one\n"
    )


def without(width):
    return lambda levels: [level[:, :width] for level in levels]


@pytest.mark.parametrize(
    ("case", "stem", "function", "compared"),
    [
        ("hi_lam", "m2m_features", without(2), "features in m2m_features.pt"),
        ("hi_lam", "mesh_features", without(1), "features in mesh_features.pt"),
        ("hi_lam", "mesh_up_features", without(2), "in mesh_up_features.pt"),
        ("hi_lam", "mesh_down_features", without(2), "mesh_down_features.pt"),
        ("hi_lam", "mesh_up_edge_index", without(7), "edges in mesh_up"),
        ("hi_lam", "m2m_features", lambda levels: levels[:1], "parts of m2m"),
        ("graph_lam", "m2m_features", without(2), "features in m2m_features"),
    ],
)
def test_a_mesh_of_another_run(
    case, stem, function, compared, owned, tmp_path, capsys
):
    run = owned(f"0.5.0-{case}")
    graph = tmp_path / run.graph.name
    shutil.copytree(run.graph, graph)
    spoil(graph, stem, function)
    assert upgrade(run, tmp_path, graph) == 1
    assert compared in refused(capsys)["compared"]


@pytest.mark.parametrize("stem", ["m2m_features", "mesh_up_edge_index"])
def test_a_hierarchical_graph_without_a_file(stem, owned, tmp_path, capsys):
    run = owned("0.5.0-hi_lam")
    graph = tmp_path / run.graph.name
    shutil.copytree(run.graph, graph)
    (graph / f"{stem}.pt").unlink()
    assert upgrade(run, tmp_path, graph) == 1
    assert refused(capsys)["found"] == f"no list in {stem}.pt"


def test_a_graph_of_another_name(owned, tmp_path, graph, capsys):
    other = graph.rename(tmp_path / "one_sq")
    out = ("--graph-out", tmp_path / "out")
    assert upgrade(owned(NAME), tmp_path, other, *out) == 1
    error = capsys.readouterr().err
    assert (
        f"  compared: name\n  found: one_sq\n  expected: {graph.name}" in error
    )
    assert "--graph-name-differs" in error
    assert not (tmp_path / "new.ckpt").exists()
    differs = (*out, "--graph-name-differs")
    assert upgrade(owned(NAME), tmp_path, other, *differs) == 0
    assert "'one_sq' was used, although" in capsys.readouterr().out
    record = torch.load(tmp_path / "new.ckpt", weights_only=False)
    assert record["nlam_compat"]["graph_differs"] == "one_sq"


def test_the_graph_of_another_domain(owned, tmp_path, capsys):
    """Of the same name: then the dataset tells that its grid is another."""
    run, other = owned("0.4.0-graph_lam"), owned("0.4.0-graph_lam-square")
    assert run.graph.name == other.graph.name
    out = ("--graph-out", tmp_path / "out")
    dataset = ("--statistics", run.statistics)
    assert upgrade(run, tmp_path, other.graph, *out, *dataset) == 1
    assert refused(capsys)["compared"].startswith("grid nodes")


@pytest.fixture
def runs(owned, tmp_path):
    """Runs with graphs of different names, and a folder of these graphs."""
    folder = tmp_path / "runs"
    for case in ("graph_lam", "hi_lam"):
        run = owned(f"0.5.0-{case}")
        (folder / case).mkdir(parents=True)
        shutil.copy(run.checkpoint, folder / case / "best.ckpt")
        shutil.copytree(run.graph, tmp_path / "graphs" / run.graph.name)
    return folder


def test_one_graph_for_runs_with_different_graphs(owned, runs, capsys):
    graph, out = owned("0.5.0-graph_lam").graph, runs.parent / "out"
    paths = ("--graph", str(graph), "--graph-out", str(out))
    assert main(["upgrade", str(runs), *paths]) == 1
    shown = capsys.readouterr().out
    assert "hi_lam/best.ckpt     ?      refused" in shown
    assert "The graph does not" in shown
    assert not list(runs.glob("hi_lam/upgraded*"))
    assert main(["upgrade", str(runs), *paths, "--graph-name-differs"]) == 1
    assert "is for one file" in capsys.readouterr().err


def test_each_run_finds_its_graph_by_name(owned, runs):
    paths = ("--graph-root", runs.parent / "graphs", "--graph-out", runs.parent)
    assert main(["upgrade", str(runs), *map(str, paths)]) == 0
    assert len(list(runs.rglob("upgraded_best.ckpt"))) == 2
    for case in ("graph_lam", "hi_lam"):
        name = owned(f"0.5.0-{case}").graph.name
        assert (runs.parent / name / "g2m_edge_index.pt").exists()


@pytest.mark.parametrize("name", ["..", "../1level", "/1level", ""])
def test_a_root_is_not_left(name, owned, tmp_path, graph, capsys):
    tree = torch.load(owned(NAME).checkpoint, weights_only=False)
    tree["hyper_parameters"]["args"].graph = name
    file = tmp_path / "odd.ckpt"
    torch.save(tree, file)
    paths = ("--graph-root", graph / "below", "--graph-out", tmp_path / "out")
    assert main(["upgrade", *map(str, (file, *paths))]) == 1
    error = capsys.readouterr().err
    assert error.startswith("The checkpoint does not name its graph.\n")
    assert sorted(tmp_path.iterdir()) == sorted([file, graph])


def test_a_graph_and_a_root(owned, runs, graph, capsys):
    paths = ("--graph-root", str(graph.parent))
    assert upgrade(owned(NAME), runs, graph, *paths) == 2
    assert "not allowed with argument --graph\n" in capsys.readouterr().err


def test_a_directory_that_was_filled_in_part(owned, tmp_path, graph):
    """As after a kill, in an empty directory that was there before."""
    out = tmp_path / "out"
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 0
    names = sorted(file.name for file in out.iterdir())
    (tmp_path / "new.ckpt").unlink()
    (out / names[1]).unlink()
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 0
    assert sorted(file.name for file in out.iterdir()) == names
    (out / names[1]).unlink()
    (out / "notes.txt").touch()
    (tmp_path / "new.ckpt").unlink()
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1


def test_a_link_or_a_pipe_as_metainfo(owned, tmp_path, graph, capsys):
    out, metainfo = tmp_path / "out", graph / "metainfo.yaml"
    secret = tmp_path / "secret"
    secret.write_text("password: 1234\n")
    metainfo.unlink(missing_ok=True)
    metainfo.symlink_to(secret)
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1
    assert "metainfo.yaml is a link" in capsys.readouterr().err
    assert not out.exists()
    metainfo.unlink()
    os.mkfifo(metainfo)
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1
    assert "metainfo.yaml is not a regular file" in capsys.readouterr().err


def test_a_graph_file_that_hides_something(owned, tmp_path, graph, capsys):
    """What does not change is copied; what is in it must have been judged."""
    file, out = graph / "m2g_features.pt", tmp_path / "out"
    original = file.read_bytes()
    for hidden in (original + b"hidden", b"hidden" + original):
        file.write_bytes(hidden)
        assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1
        assert "m2g_features.pt" in capsys.readouterr().err
        assert not out.exists()


def test_a_graph_is_removed_before_another_upgrade_uses_it(
    owned, tmp_path, graph, monkeypatch
):
    """Both write the same one, and the first has no space for its file."""
    out, new = tmp_path / "graphs" / "1level", tmp_path / "theirs.ckpt"
    others = []

    def start_other_and_fail(*_, **options):
        assert any(out.iterdir())
        command = [
            *(sys.executable, "-m", "pytest_nlam_compat", "upgrade"),
            *(owned(NAME).checkpoint, "-o", new),
            *("--graph", graph, "--graph-out", out),
        ]
        others.append(subprocess.Popen(list(map(str, command))))
        while not list(out.parent.glob(".1level.*.part/metainfo.yaml")):
            assert others[0].poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        assert not new.exists()
        raise CompatError("No space.", remedy="Make some.")

    (graph / "metainfo.yaml").touch()
    monkeypatch.setattr(OutputFile, "write", start_other_and_fail)
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1
    assert others[0].wait() == 0
    assert new.exists()
    assert len(list(out.iterdir())) == len(list(graph.iterdir()))


def test_a_graph_that_another_upgrade_has_placed_stays(
    owned, tmp_path, graph, monkeypatch, capsys
):
    out = tmp_path / "graphs" / "1level"

    def placed_meanwhile(*_):
        out.mkdir()
        (out / "g2m_features.pt").write_bytes(b"theirs")

    monkeypatch.setattr(graphs, "_copy_metainfo", placed_meanwhile)
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1
    assert "not a directory with this graph" in capsys.readouterr().err
    assert os.listdir(out.parent) == ["1level"]
    assert (out / "g2m_features.pt").read_bytes() == b"theirs"


def test_a_file_is_no_directory_for_a_graph(owned, tmp_path, graph, capsys):
    out = tmp_path / "notes.txt"
    out.touch()
    assert upgrade(owned(NAME), tmp_path, graph, "--graph-out", out) == 1
    assert "not a directory with this graph" in capsys.readouterr().err
