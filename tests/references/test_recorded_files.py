"""The files of the references: no machine in them, and nothing made up.

Read with our own reader, which runs no pickle; no neural-lam is needed.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from listed_releases import RECORDED
from packaging.version import Version

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.walk import children
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive
from pytest_nlam_compat.references.release_evidence import (
    names_of_releases,
    published,
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
LISTED = registry.read(FIXTURES / "registry.txt")
ARCHIVES = {str(r): ReleaseArchive(FIXTURES / f"{r}.zip") for r in LISTED}
REFERENCES = [
    Reference(archive, case)
    for archive in ARCHIVES.values()
    for case in archive.cases
]
each_release = pytest.mark.parametrize("release", ARCHIVES)
each = pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: r.id)

# An absolute path of any system, or one below a home or a temporary folder.
ABSOLUTE = re.compile(
    r"(^|[\s'\"=:(,])(/[\w.~-]+){2,}|[A-Za-z]:[\\/]|\\\\\w"
    r"|/(home|root|tmp|Users|usr|work|opt|mnt|scratch)\b|file://|~/"
)
PICKLED = (".ckpt", ".pt")
TEXT = (".json", ".yaml")

# What distinguishes the argument parsers (NEURAL_LAM_FACTS, section 2).
ADDED = {
    "0.1.0": {"dataset"},
    "0.2.0": {"data_config"},
    "0.3.0": {"num_past_forcing_steps", "num_future_forcing_steps"},
    "0.4.0": {"logger", "logger_project"},
    "0.5.0": {"logger_run_name"},
    "0.6.0": {"create_gif", "load_single_member", "wandb_id"},
    "0.7.0": {
        "g2m_gnn_type",
        "m2g_gnn_type",
        "mesh_down_gnn_type",
        "mesh_up_gnn_type",
        "num_sanity_val_steps",
        "runs_root",
        "train_steps_to_log",
    },
}
HYPER_PARAMETERS = {
    "0.1.0": {"args"},
    "0.2.0": {"args"},
    "0.7.0": {
        "args",
        "config",
        "create_gif",
        "loss",
        "lr",
        "metrics_watch",
        "n_example_pred",
        "restore_opt",
        "train_steps_to_log",
        "val_steps_to_log",
        "var_leads_metrics_watch",
    },
}
TOP_LEVEL = {
    "callbacks",
    "epoch",
    "global_step",
    "hparams_name",
    "hyper_parameters",
    "loops",
    "lr_schedulers",
    "optimizer_states",
    "pytorch-lightning_version",
    "state_dict",
}


def texts(node):
    """Every string in a tree of stand-ins, keys and attributes too."""
    if isinstance(node, str):
        yield node
    for _, child in children(node):
        yield from texts(child)


@pytest.fixture(scope="module")
def tree_of(tmp_path_factory):
    """Read a pickled member without running it."""
    folder = tmp_path_factory.mktemp("pickled")

    @cache
    def tree(release, member):
        case, _, name = member.partition("/")
        path = folder / f"{release}-{member.replace('/', '-')}"
        path.write_bytes(ARCHIVES[release].read(case, name))
        with read_checkpoint(path) as checkpoint:
            return checkpoint.data

    return tree


def members(release, endings):
    listed = ARCHIVES[release].index["members"]
    return [member for member in listed if member.endswith(endings)]


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("/home/me/config.yaml", True),
        ("see /tmp", True),
        ("--config_path=/data/runs/1", True),
        ("C:\\Users\\me", True),
        ("\\\\server\\share", True),
        ("~/runs", True),
        ("config.yaml", False),
        ("saved_models/graph_lam/last.ckpt", False),
        ("x/pos_max", False),
        ("nlam-compat record 0.7.0", False),
        ("2024-01-01T00:00", False),
    ],
)
def test_the_pattern(text, is_path):
    assert bool(ABSOLUTE.search(text)) == is_path


@each_release
def test_no_text_names_a_path_of_a_machine(release):
    archive = ARCHIVES[release]
    found = {"release.json": ABSOLUTE.search(str(archive.index))}
    for member in members(release, TEXT):
        text = archive.read(*member.split("/", 1)).decode()
        found[member] = ABSOLUTE.search(text)
    assert {member: m for member, m in found.items() if m} == {}


@each_release
def test_no_pickle_does(release, tree_of):
    found = [
        (member, text)
        for member in members(release, PICKLED)
        for text in texts(tree_of(release, member))
        if ABSOLUTE.search(text)
    ]
    assert found == []


@each_release
def test_every_member_was_looked_into(release):
    rest = set(ARCHIVES[release].index["members"])
    rest -= set(members(release, (*PICKLED, *TEXT)))
    names = {member.partition("/")[2] for member in rest}
    assert names == {"state_dict.safetensors", "tensors.safetensors"}


def checkpoint_of(reference, tree_of):
    return tree_of(str(reference.release), f"{reference.case}/checkpoint.ckpt")


@each
def test_the_checkpoint_is_that_of_the_trainer(reference, tree_of):
    data = checkpoint_of(reference, tree_of)
    assert set(data) == TOP_LEVEL
    assert data["global_step"] == reference.description["optimizer_steps"]
    assert len(data["optimizer_states"]) == 1
    moments = data["optimizer_states"][0]["state"]
    without = {
        name.split(".")[2]
        for index, name in enumerate(reference.description["resume"])
        if index not in moments
    }
    # What only a variational training step would reach, and 0.7 has none.
    sampling = {"encoder", "grid_current_embedder"}
    assert without == (sampling if reference.group("noise") else set())
    assert {key for each in moments.values() for key in each} == {
        "exp_avg",
        "exp_avg_sq",
        "step",
    }


def hyper_parameters_of(release):
    """What files of a release have: since 0.7.0, by the table of evidence."""
    if str(release) in HYPER_PARAMETERS:
        return HYPER_PARAMETERS[str(release)]
    if release < Version("0.7.0"):
        return {"args", "config"}
    names = names_of_releases(published(), "hyper_parameters")
    kept = HYPER_PARAMETERS["0.7.0"] - names[Version("0.7.0")]
    return kept | names[release]


@each
def test_names_in_a_file_are_those_of_the_table_of_evidence(reference, tree_of):
    found = checkpoint_of(reference, tree_of)["hyper_parameters"]
    assert set(found) == hyper_parameters_of(reference.release)
    known = names_of_releases(published(), "args")
    if found["args"] is not None:
        telling = set().union(*known.values())
        names = telling & set(found["args"].attributes)
        assert names == known[reference.release]


@pytest.mark.parametrize(
    "reference",
    [r for r in REFERENCES if str(r.release) in ADDED],
    ids=lambda r: r.id,
)
def test_args_are_those_of_the_parser_of_the_release(reference, tree_of):
    release = str(reference.release)
    found = checkpoint_of(reference, tree_of)["hyper_parameters"]
    if reference.description["predictor"]:
        assert found["args"] is None  # no command line trains it
        return
    arguments = found["args"].attributes
    present = {
        since for since, names in ADDED.items() if names <= set(arguments)
    }
    absent = {
        since for since, names in ADDED.items() if not names & set(arguments)
    }
    assert present | absent == set(ADDED)
    expected = {
        since for since in ADDED if Version(since) <= reference.release
    } - {"0.1.0", "0.2.0"}
    if release in ("0.1.0", "0.2.0"):
        expected = {release}
    assert present == expected
    assert arguments["model"] == reference.description["model"]
    assert arguments["graph"] == reference.graph_name


@pytest.mark.parametrize("release", RECORDED)
def test_args_have_what_a_case_is_about(release, tree_of, reference_of):
    def arguments(case):
        reference = reference_of(f"{release}-{case}")
        data = checkpoint_of(reference, tree_of)
        return data["hyper_parameters"]["args"].attributes

    plain = arguments("graph_lam")
    assert plain["mesh_aggr"] == "sum"
    assert plain["config_path"] == "config.yaml"
    assert arguments("graph_lam-multiscale")["mesh_aggr"] == "mean"
    for case, window in (
        ("", (1, 1)),
        ("-window00", (0, 0)),
        ("-window21", (2, 1)),
    ):
        found = arguments(f"graph_lam{case}")
        assert found["num_past_forcing_steps"] == window[0]
        assert found["num_future_forcing_steps"] == window[1]

    def numbers(case, *names):
        return [arguments(case)[name] for name in names]

    layers = ("hidden_layers", "processor_layers")
    assert numbers("graph_lam", *layers) == [1, 2]
    assert numbers("graph_lam-deep", *layers) == [2, 2]
    assert numbers("graph_lam-shallow", *layers) == [0, 1]
    assert numbers("graph_lam", "loss", "lr") == ["wmse", 1e-3]
    assert numbers("graph_lam-mae", "loss", "lr") == ["mae", 1e-2]
    recorded = ARCHIVES[release].cases
    for case in {"hi_lam-deep"} & set(recorded):
        assert numbers(case, *layers) == [1, 2]
    for case in {"graph_lam-std", "graph_lam-std-clamp"} & set(recorded):
        assert arguments(case)["output_std"] is True
    for case in {"graph_lam-propagation", "hi_lam-propagation"} & set(recorded):
        assert arguments(case)["g2m_gnn_type"] == "PropagationNet"


@pytest.mark.parametrize("release", RECORDED)
def test_the_config_is_that_of_the_yaml(release, tree_of, reference_of):
    def training(case):
        reference = reference_of(f"{release}-{case}")
        found = checkpoint_of(reference, tree_of)["hyper_parameters"]["config"]
        assert found.cls.path == "neural_lam.config.NeuralLAMConfig"
        return found.attributes["training"].attributes

    def limits(case):
        clamping = training(case)["output_clamping"].attributes
        return clamping["upper"], clamping["lower"]

    assert limits("graph_lam") == ({}, {})
    assert limits("graph_lam-clamp") == (
        {"t2m": 320.0, "r2m": 1.0},
        {"r2m": 0.0, "q2m": 0.0},
    )
    weighting = training("graph_lam-weights")["state_feature_weighting"]
    assert weighting.cls.name == "ManualStateFeatureWeighting"
    assert weighting.attributes["weights"] == {
        "t2m": 0.5,
        "r2m": 2.0,
        "q2m": 1.0,
        "u10": 0.25,
    }


@each
def test_weights_are_stored_twice_and_equal(reference, tmp_path):
    path = reference.write(tmp_path)
    with read_checkpoint(path) as checkpoint:
        refs = checkpoint.data["state_dict"]
        found = {name: ref.load() for name, ref in refs.items()}
    assert sorted(found) == list(reference.state_dict)
    for name, tensor in reference.state_dict.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype is tensor.dtype
