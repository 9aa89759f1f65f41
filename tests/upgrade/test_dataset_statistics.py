import json
import os

import mdp_dataset
import numpy as np
import pytest
from safetensors.numpy import load_file

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.upgrade.dataset_facts import ARRAYS, read_facts


def write(*arguments):
    return main(["statistics", *map(str, arguments)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A real dataset: neural-lam's configuration, and the raw values."""
    return mdp_dataset.write(tmp_path_factory.mktemp("mdp"))


@pytest.mark.neural_lam
@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_the_statistics_of_a_datastore(dataset, tmp_path, ending, capsys):
    config, values = dataset
    output = tmp_path / f"statistics.{ending}"
    assert write("--datastore", config, "-o", output) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{output}: 2 state variables, 2 static features, 4 x 3 grid"
    )
    facts = read_facts(output)
    assert set(facts.arrays) == {*ARRAYS, "extent"}
    assert facts.grid_shape == (4, 3)
    assert facts.static_names == ("orography", "land")
    assert facts.config["training"]["state_feature_weighting"] == {
        "__config_class__": "ManualStateFeatureWeighting",
        "weights": {"t2m": 2.0, "u10": 0.5},
    }
    assert facts.config["training"]["output_clamping"]["lower"] == {"t2m": 0.0}
    assert facts.arrays["extent"] == [0.0, 300.0, 0.0, 100.0]
    static = [values["orography"], values["land"]]
    state = [values["t2m"], values["u10"]]
    for name, of_values, compute in [
        ("static_mean", static, np.mean),
        ("static_std", static, np.std),
        ("static_min", static, np.min),
        ("static_max", static, np.max),
        ("state_mean", state, np.mean),
        ("state_std", state, np.std),
    ]:
        expected = [compute(each) for each in of_values]
        np.testing.assert_allclose(facts.arrays[name], expected, err_msg=name)


@pytest.mark.neural_lam
def test_the_safetensors_file_is_one(dataset, tmp_path):
    output = tmp_path / "statistics.safetensors"
    write("--datastore", dataset[0], "-o", output)
    arrays = load_file(output)
    assert set(arrays) == {*ARRAYS, "extent"}
    assert {array.dtype for array in arrays.values()} == {np.dtype("f8")}


@pytest.mark.neural_lam
def test_an_upgrade_computes_them_itself(dataset, owned, tmp_path, capsys):
    # The grid of this dataset is another, which shows that it was read.
    case = owned("0.3.0-graph_lam")
    status = main(
        [
            *("upgrade", str(case.checkpoint), "-o", str(tmp_path / "new")),
            *("--datastore", str(dataset[0]), "--graph", str(case.graph)),
        ]
    )
    assert status == 1
    nodes = np.prod(case.reference.dataset.grid_shape)
    assert capsys.readouterr().err.endswith(
        "The graph does not belong to the checkpoint.\n"
        f"  directory: {case.graph}\n"
        "  compared: grid nodes in m2g_edge_index.pt and the dataset\n"
        f"  found: {nodes}\n"
        "  expected: 12\n"
        "Pass the graph directory that the run was trained with.\n"
    )


@pytest.mark.neural_lam
def test_a_datastore_that_cannot_be_loaded(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    assert write("--datastore", config, "-o", tmp_path / "s.json") == 1
    error = capsys.readouterr().err
    assert f"  file: {config}\n  cause: FileNotFoundError: " in error
    config.write_text("datastore: {kind: mdp, config_path: missing.yaml}\n")
    assert write("--datastore", config, "-o", tmp_path / "s.json") == 1
    error = capsys.readouterr().err
    assert error.startswith("neural-lam can't load the datastore.\n")
    assert "cause: FileNotFoundError: " in error


def test_nothing_is_overwritten(tmp_path, capsys):
    output = tmp_path / "statistics.json"
    output.write_text("precious")
    assert write("--datastore", "config.yaml", "-o", output) == 1
    assert capsys.readouterr().err == (
        "statistics.json exists already.\n"
        f"  file: {output}\n"
        "Choose another path for the output, or move the file.\n"
    )
    assert output.read_text() == "precious"


def numbers(count):
    return [1.0] * count


GOOD = {
    "nlam_compat_statistics": 1,
    "grid_shape": [3, 2],
    "static_names": ["x", "y"],
    "arrays": {
        name: numbers(2 if name.startswith("static") else 3) for name in ARRAYS
    },
}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"nlam_compat_statistics": 2}, "its format is 2, not 1"),
        ({"static_names": None}, "'NoneType' object is not iterable"),
        (
            {"grid_shape": [3]},
            "not enough values to unpack (expected 2, got 1)",
        ),
        (
            {"grid_shape": [1e999, 2]},
            "cannot convert float infinity to integer",
        ),
        ({"grid_shape": [10**4000] * 2}, "its grid_shape makes no sense"),
        ({"grid_shape": [0, 2]}, "its grid_shape makes no sense"),
        ({"arrays": {}}, "it lacks 'state_mean'"),
        (
            {"arrays": {**GOOD["arrays"], "static_max": numbers(3)}},
            "static_max has 3 numbers, not 2",
        ),
        (
            {"arrays": {**GOOD["arrays"], "extent": numbers(2)}},
            "extent has 2 numbers, not 4",
        ),
        (
            {"arrays": {**GOOD["arrays"], "state_std": [1.0, 2.0, "nan"]}},
            "state_std has numbers that are not finite",
        ),
    ],
)
def test_an_invalid_file_of_statistics(change, cause, owned, tmp_path, capsys):
    file = tmp_path / "statistics.json"
    file.write_text(json.dumps({**GOOD, **change}))
    old = owned("0.3.0-graph_lam").checkpoint
    assert main(["upgrade", str(old), "--statistics", str(file)]) == 1
    assert capsys.readouterr().err == (
        "statistics.json is not a file of dataset statistics.\n"
        f"  file: {file}\n"
        f"  cause: {cause}\n"
        "Write one with nlam-compat statistics --datastore CONFIG -o FILE.\n"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"\xff\xfe", b"PK\3\4", b"[" * 100_000],
    ids=["empty", "list", "cut", "no text", "zip", "deep"],
)
def test_a_file_that_is_not_of_statistics(content, tmp_path, capsys):
    file = tmp_path / "statistics.json"
    file.write_bytes(content)
    assert main(["upgrade", "old.ckpt", "--statistics", str(file)]) == 1
    assert capsys.readouterr().err.startswith(
        "statistics.json is not a file of dataset statistics.\n"
    )


def test_an_invalid_configuration(owned, tmp_path, capsys):
    case = owned("0.2.0-graph_lam")
    file = tmp_path / "statistics.json"
    facts = json.loads(case.statistics.read_text())
    facts["config"] = {"datastore": {"kind": "mdp"}}
    file.write_text(json.dumps(facts))
    status = main(
        [
            *("upgrade", str(case.checkpoint), "-o", str(tmp_path / "new")),
            *("--statistics", str(file), "--graph", str(case.graph)),
            *("--graph-out", str(tmp_path / "graph")),
        ]
    )
    assert status == 1
    assert capsys.readouterr().err == (
        "The configuration in the statistics is not one of neural-lam.\n"
        "  cause: KeyError: 'config_path'\n"
        "Write the file again with nlam-compat statistics, or remove its "
        'entry "config".\n'
    )
    assert list(tmp_path.iterdir()) == [file]


def test_a_pipe_is_no_file_of_statistics(owned, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    old = owned("0.3.0-graph_lam").checkpoint
    assert main(["upgrade", str(old), "--statistics", str(pipe)]) == 1
    assert "pipe is not a regular file" in capsys.readouterr().err
