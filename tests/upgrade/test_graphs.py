import shutil

import pytest
import torch

from pytest_nlam_compat.cli import main

NAME = "0.5.0-graph_lam-square"


@pytest.fixture
def graph(owned, tmp_path):
    """A copy of the graph directory, to be changed."""
    copied = tmp_path / "graph"
    shutil.copytree(owned(NAME).graph, copied)
    return copied


def upgrade(case, folder, graph, *arguments):
    return main(
        [
            *("upgrade", str(case.checkpoint), "-o", str(folder / "new.ckpt")),
            *("--graph", str(graph), *map(str, arguments)),
        ]
    )


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
        *("graph", "new.ckpt", "out"),
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
            "features in m2g_features.pt and m2g_embedder",
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
