"""What was changed is written, and nothing else differs."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, InertObject
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError


def test_changes(lightning_file: Path) -> None:
    target = lightning_file.with_name("changed.ckpt")
    bias = torch.arange(4.0)
    with read_checkpoint(lightning_file) as checkpoint:
        weights = checkpoint.data["state_dict"]
        weights["forecaster.0.weight"] = weights.pop("0.weight")
        weights["0.bias"] = bias
        weights["view"] = bias[1:]
        weights["numbers"] = torch.arange(6, dtype=torch.int32).reshape(2, 3)
        weights["scalar"] = torch.tensor(2.5)
        del weights["2.weight"]
        hyper_parameters = checkpoint.data["hyper_parameters"]
        hyper_parameters["args"].state["hidden_dim"] = 32
        hyper_parameters["config"] = InertObject(
            GlobalRef("argparse", "Namespace"), state={"a": 1}
        )
        write_checkpoint(checkpoint.data, target)
    found = torch.load(target, weights_only=False)
    old = torch.load(lightning_file, weights_only=False)
    weights = found["state_dict"]
    assert torch.equal(
        weights["forecaster.0.weight"], old["state_dict"]["0.weight"]
    )
    assert weights["view"].tolist() == [1, 2, 3]
    assert weights["numbers"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["numbers"].dtype == torch.int32
    assert weights["scalar"].item() == 2.5
    weights["0.bias"].zero_()
    assert not weights["view"].any()
    assert found["hyper_parameters"]["args"].hidden_dim == 32
    assert found["hyper_parameters"]["config"] == argparse.Namespace(a=1)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(0, 3),
        torch.ones(()),
        torch.arange(6.0).reshape(2, 3).t(),
        torch.tensor([1 + 2j]),
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(2, requires_grad=True),
        torch.ones(2).bfloat16(),
        torch.tensor([True]),
        torch.tensor([7], dtype=torch.uint8),
    ],
    ids=lambda tensor: f"{type(tensor).__name__} {tensor.dtype}",
)
def test_new_tensors(tmp_path: Path, tensor: torch.Tensor) -> None:
    write_checkpoint([tensor], tmp_path / "new.pt")
    found = torch.load(tmp_path / "new.pt")[0]
    assert (type(found), found.dtype) == (type(tensor), tensor.dtype)
    assert found.stride() == tensor.stride()
    assert found.requires_grad == tensor.requires_grad
    assert found.is_conj() == tensor.is_conj()
    assert torch.equal(found, tensor)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (argparse.Namespace(), "A argparse.Namespace can't be written"),
        (1 + 2j, "A builtins.complex can't be written"),
        (GlobalRef("m", "A.B"), "A class of the name m.A.B can't be"),
        (GlobalRef("commands", "run"), "A class of the name commands.run"),
        (torch.ones(1).untyped_storage(), "A torch.storage.UntypedStorage"),
        (torch.eye(2).to_sparse(), "A Tensor of type float32 can't be"),
        (torch.tensor([1j]).conj(), "A Tensor of type complex64 can't be"),
        (torch.ones(1, dtype=torch.complex32), "A Tensor of type complex32"),
        (torch.ones(1, dtype=torch.uint16), "A Tensor of type uint16 can't"),
        (torch.empty(1, device="meta"), "A Tensor of type float32 can't"),
        (
            (lambda one: [one, one.view(torch.int32)])(torch.ones(1)),
            "A torch.int32 view of another type can't be",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_can_not_be_written(tmp_path: Path, value: Any, what: str) -> None:
    with pytest.raises(CompatError, match="^" + what):
        write_checkpoint({"x": value}, tmp_path / "bad.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_without_an_end(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CompatError, match="an object that holds itself"):
        write_checkpoint(endless, tmp_path / "bad.pt")


def test_tensors_of_two_checkpoints(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        torch.save([torch.full((2,), value)], tmp_path / name)
    with (
        read_checkpoint(tmp_path / "a") as first,
        read_checkpoint(tmp_path / "b") as second,
    ):
        write_checkpoint([first.data, second.data], tmp_path / "both")
    found = torch.load(tmp_path / "both")
    assert [part.tolist() for (part,) in found] == [[1, 1], [2, 2]]
