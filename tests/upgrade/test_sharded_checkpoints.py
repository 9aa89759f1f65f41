"""What the tools that the remedy names make of sharded checkpoints."""

import os
import subprocess
import sys

import pytest
import torch

from pytest_nlam_compat.cli import main
from pytest_nlam_compat.migrations.layout import check_weights

pytestmark = [pytest.mark.slow, pytest.mark.neural_lam]

NAME = "0.6.0-graph_lam"


@pytest.fixture(scope="module")
def one_process():
    """A group of this process alone, over gloo."""
    from torch import distributed

    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(params=["model", "state_dict"])
def sharded(request, owned, tmp_path, one_process):
    """A folder as Lightning's FSDP or model parallel strategy writes it."""
    from torch.distributed import checkpoint as dcp

    folder = tmp_path / "run.ckpt"
    content = torch.load(owned(NAME).checkpoint, weights_only=False)
    weights = content.pop("state_dict")
    [state] = content.pop("optimizer_states")
    names = [n for n in weights if "clamp" not in n and "_lims" not in n]
    optimizer = {
        "state": {names[n]: kinds for n, kinds in state["state"].items()},
        "param_groups": [{**state["param_groups"][0], "params": names}],
    }
    parts = {request.param: weights, "optimizer_0": optimizer}
    dcp.save(parts, checkpoint_id=folder)
    torch.save(content, folder / "meta.pt")
    return folder


def convert(module, *arguments):
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        check=True,
        capture_output=True,
    )


def equal_to_upgraded(owned, new, tmp_path):
    """Compare with the upgrade of the same checkpoint from one process."""
    plain = tmp_path / "plain.ckpt"
    assert main(["upgrade", str(owned(NAME).checkpoint), "-o", str(plain)]) == 0
    expected = torch.load(plain, weights_only=False)
    assert list(new["state_dict"]) == list(expected["state_dict"])
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(new["state_dict"][name], tensor)
    return expected


def test_the_remedy_names_both(sharded, capsys):
    assert main(["upgrade", str(sharded)]) == 1
    error = capsys.readouterr().err
    assert "lightning_fabric.utilities.consolidate_checkpoint DIR" in error
    assert "torch.distributed.checkpoint.format_utils dcp_to_torch" in error


def test_what_lightning_consolidates(sharded, owned, tmp_path, capsys):
    convert("lightning_fabric.utilities.consolidate_checkpoint", sharded)
    file = sharded.with_name("run.ckpt.consolidated")
    new = tmp_path / "new.ckpt"
    assert main(["upgrade", str(file), "-o", str(new)]) == 0
    assert "Parts of a sharded checkpoint" in capsys.readouterr().out
    content = torch.load(new, weights_only=False)
    expected = equal_to_upgraded(owned, content, tmp_path)
    assert set(content) == set(expected)
    [moments], [wanted] = (
        [each["state"] for each in c["optimizer_states"]]
        for c in (content, expected)
    )
    assert list(moments) == list(wanted)
    for number, kinds in wanted.items():
        for kind, moment in kinds.items():
            assert torch.equal(moments[number][kind], moment)


def test_what_torch_converts(sharded, owned, tmp_path):
    file, new = tmp_path / "run.pt", tmp_path / "new.ckpt"
    tool = "torch.distributed.checkpoint.format_utils"
    convert(tool, "dcp_to_torch", sharded, file)
    arguments = ["upgrade", str(file), "-o", str(new)]
    assert main(arguments) == 1
    assert main([*arguments, "--from", "0.6.0"]) == 0
    content = torch.load(new, weights_only=False)
    equal_to_upgraded(owned, content, tmp_path)


def test_weights_without_anything_around_them(owned, tmp_path, capsys):
    """As zero_to_fp32.py of DeepSpeed leaves them."""
    content = torch.load(owned(NAME).checkpoint, weights_only=False)
    file, new = tmp_path / "pytorch_model.bin", tmp_path / "new.ckpt"
    weights = {
        f"_forward_module.{name}": tensor
        for name, tensor in content["state_dict"].items()
    }
    torch.save(weights, file)
    arguments = ["upgrade", str(file), "-o", str(new), "--from", "0.6.0"]
    assert main(arguments) == 0
    assert "put under state_dict" in capsys.readouterr().out
    weights = torch.load(new, weights_only=False)["state_dict"]
    check_weights(weights, {}, "0.7.0")
    equal_to_upgraded(owned, {"state_dict": weights}, tmp_path)
