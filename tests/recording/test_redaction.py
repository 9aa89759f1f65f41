"""What is taken out of a checkpoint, and that nothing else is."""

import getpass
import platform
from collections import OrderedDict
from pathlib import PurePosixPath

import pytest

from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.recording import redaction
from pytest_nlam_compat.recording.redaction import REMOVED, redact, redacted


def namespace(**arguments):
    return InertObject(GlobalRef("argparse", "Namespace"), state=arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config_path", "config.yaml"),
        ("load", "last.ckpt"),
        ("logger_run_name", "winter"),
        ("wandb_id", "3fh2k"),
        ("runs_root", "runs"),
        ("anything", "/scratch/project_4650/run"),
        ("anything", "C:\\Users\\someone\\run"),
        ("anything", "~/run"),
        ("anything", "someone@example.org"),
        ("anything", f"trained by {getpass.getuser()}"),
        ("anything", f"on {platform.node()}."),
        ("anything", PurePosixPath("run")),
        (
            "anything",
            InertObject(GlobalRef("pathlib", "PosixPath"), ("/", "run")),
        ),
    ],
)
def test_what_names_a_place_is_removed(name, value):
    args = redacted(namespace(**{name: value}, deep=[{"x": (value,)}]))
    assert args.state[name] == REMOVED
    if name == "anything":
        assert args.state["deep"] == [{"x": (REMOVED,)}]


def test_what_the_model_needs_is_kept(monkeypatch):
    # A user may be called anything.
    monkeypatch.setattr(redaction, "_tells", lambda: [lambda text: True])
    kept = {
        "model": "hi_lam",
        "loss": "wmse",
        "mesh_aggr": "sum",
        "g2m_gnn_type": "PropagationNet",
        "graph": "multiscale",
        "hidden_dim": 64,
        "lr": 1e-3,
        "output_std": False,
        "metrics_watch": [],
    }
    assert redacted(namespace(**kept)).state == kept


def test_a_graph_keeps_its_name_without_its_folder():
    args = redacted(namespace(graph="/scratch/me/graphs/multiscale"))
    assert args.state == {"graph": "multiscale"}


def test_weights_are_the_same_objects_and_callbacks_are_left_out():
    weights = OrderedDict(a=object())
    optimizers = [{"state": {0: {"exp_avg": object()}}}]
    data = {
        "state_dict": weights,
        "optimizer_states": optimizers,
        "callbacks": {"ModelCheckpoint": {"dirpath": "/home/me"}},
        "epoch": 3,
        "mine": "x",
        "empty": {},
    }
    kept, dropped = redact(data)
    assert kept["state_dict"] is weights
    assert kept["optimizer_states"] is optimizers
    assert kept["epoch"] == 3
    assert "callbacks" not in kept
    assert dropped == ["callbacks", "mine"]
