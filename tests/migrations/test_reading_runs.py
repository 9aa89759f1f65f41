"""A file that torch wrote, to a saved run and back."""

from argparse import Namespace

import pytest
import torch
from torch import nn

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    PermuteInputColumns,
    Rename,
    Reorder,
    Statistics,
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS


class Model(nn.Module):
    """Buffers first, as neural-lam registers them, and a frozen layer."""

    def __init__(self):
        super().__init__()
        for name in CLAMP_BUFFERS:
            self.register_buffer(name, torch.tensor([]))
        self.embedder = nn.Linear(3, 4)
        self.unused = nn.Linear(1, 1)
        self.output_map = nn.Linear(4, 2)


def train(model, optimizer, steps=2):
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        hidden = model.embedder(torch.randn(5, 3)).tanh()
        model.output_map(hidden).square().mean().backward()
        optimizer.step()


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer)
    return model, optimizer


@pytest.fixture
def content(trained):
    model, optimizer = trained
    return {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"args": Namespace(lr=1e-2)},
    }


@pytest.fixture
def read(tmp_path):
    def read(content, **more):
        torch.save(content, tmp_path / "model.ckpt")
        with read_checkpoint(tmp_path / "model.ckpt") as checkpoint:
            return saved_run_from_checkpoint(checkpoint.data, **more)

    return read


def test_moments_are_named(read, content, trained):
    model, optimizer = trained
    run = read(content)
    [found] = run.optimizers
    assert found.names == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        if name.startswith("unused"):
            assert name not in found.moments
            continue
        for kind, moment in optimizer.state[parameter].items():
            assert torch.equal(found.moments[name][kind], moment)
    assert found.param_groups[0]["lr"] == 1e-2
    assert "params" not in found.param_groups[0]


def test_the_way_back_gives_what_torch_wrote(read, content):
    back = to_checkpoint_dict(read(content))
    assert list(back["state_dict"]) == list(content["state_dict"])
    for name, tensor in content["state_dict"].items():
        assert torch.equal(back["state_dict"][name], tensor)
    [written], [original] = (
        back["optimizer_states"],
        content["optimizer_states"],
    )
    assert written["param_groups"] == original["param_groups"]
    assert list(written["state"]) == list(original["state"])
    for position, kinds in original["state"].items():
        for kind, moment in kinds.items():
            assert torch.equal(written["state"][position][kind], moment)
    assert back["hyper_parameters"]["args"].attributes == {"lr": 1e-2}


def test_a_migrated_run_trains_on_as_the_old_one_would(read, content, trained):
    """In another order of columns, parameters and under other names."""
    order = (2, 0, 1)

    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.output_map = nn.Linear(4, 2)
            self.encoder = nn.Linear(3, 4)
            self.unused = nn.Linear(1, 1)
            for name in CLAMP_BUFFERS:
                self.register_buffer(name, torch.tensor([]))

    run = read(content)
    for operation in (
        Rename("embedder", "encoder"),
        PermuteInputColumns("encoder.weight", order),
        Reorder("output_map", before="encoder"),
    ):
        run = operation.apply(run)
    new = Renamed()
    back = to_checkpoint_dict(run)
    new.load_state_dict(back["state_dict"], strict=True)
    resumed = torch.optim.AdamW(new.parameters())
    resumed.load_state_dict(back["optimizer_states"][0])

    torch.manual_seed(2)
    inputs = torch.randn(5, 3)
    model, optimizer = trained
    for net, layer, updates, x in (
        (model, model.embedder, optimizer, inputs),
        (new, new.encoder, resumed, inputs[:, order]),
    ):
        updates.zero_grad()
        net.output_map(layer(x).tanh()).square().mean().backward()
        updates.step()
    assert torch.allclose(
        new.encoder.weight, model.embedder.weight[:, order], atol=1e-7
    )
    assert torch.allclose(
        new.output_map.weight, model.output_map.weight, atol=1e-7
    )


def test_what_belongs_to_the_run_comes_with_it(read, content):
    statistics = Statistics()
    graph = {"g2m_edge_index": torch.zeros(2, 1)}
    run = read(
        content,
        graph=graph,
        graph_format="0.1.0",
        statistics=statistics,
        grid_shape=(2, 3),
    )
    assert run.graph == graph
    assert run.graph_format == "0.1.0"
    assert run.statistics is statistics
    assert run.grid_shape == (2, 3)


def test_weights_alone_are_a_run(read, content):
    run = read({"state_dict": content["state_dict"]})
    assert run.optimizers == []
    assert run.hyper_parameters == {}


def test_a_step_that_is_a_number_becomes_a_tensor(read, content):
    content["optimizer_states"][0]["state"][0]["step"] = 2
    run = read(content)
    step = run.optimizers[0].moments["embedder.weight"]["step"]
    assert step.dtype == torch.float32
    assert step.item() == 2


def test_a_file_without_weights_is_an_error(read):
    with pytest.raises(CompatError) as caught:
        read({"model": {}})
    assert str(caught.value) == (
        "The file holds no state_dict.\n"
        "  found: model\n"
        "Pass a checkpoint that neural-lam's training has written. If you have "
        "weights alone, save them as the entry state_dict of a dict."
    )


def test_more_than_tensors_among_the_weights_is_an_error(read, content):
    content["state_dict"]["_extra_state"] = {"a": 1}
    with pytest.raises(CompatError) as caught:
        read(content)
    assert str(caught.value) == (
        "The state_dict holds more than tensors.\n"
        "  found: _extra_state\n"
        "Write a migration for it, or drop it from the file."
    )


def test_an_optimizer_of_other_parameters_is_an_error(read, content):
    del content["state_dict"]["output_map.bias"]
    with pytest.raises(CompatError) as caught:
        read(content)
    assert str(caught.value) == (
        "The optimizer state doesn't belong to the weights of this file.\n"
        "  parameters of the optimizer: 6\n"
        "  parameters of the state_dict: 5\n"
        "Migrate without its state: nlam-compat upgrade --drop-optimizer."
    )


def test_a_moment_of_another_shape_is_an_error(read, content):
    state = content["optimizer_states"][0]["state"]
    state[0], state[4] = state[4], state[0]
    with pytest.raises(CompatError) as caught:
        read(content)
    assert str(caught.value) == (
        "The exp_avg at position 0 doesn't fit the parameter "
        "'embedder.weight'.\n"
        "  expected: (4, 3)\n"
        "  found: (2, 4)\n"
        "Migrate without its state: nlam-compat upgrade --drop-optimizer."
    )


def test_several_groups_are_an_error(read, content):
    content["optimizer_states"][0]["param_groups"] *= 2
    with pytest.raises(
        CompatError, match="The optimizer has 2 parameter groups"
    ):
        read(content)
