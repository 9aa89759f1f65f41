"""Tensors are what torch.load would have made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import (
    ITEMSIZES,
    STORAGES,
)
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.inspection import tensors

BYTES = torch.arange(1, 33, dtype=torch.uint8)


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equal to the bit, with all that a tensor is made of but its storage."""
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.stride() == right.stride()
        and left.requires_grad == right.requires_grad
        and type(left) is type(right)
        and left.is_conj() == right.is_conj()
        and elements(left) == elements(right)
    )


def elements(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj()
    plain = plain.clone(memory_format=torch.contiguous_format)
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def test_storages_have_the_types_of_torch() -> None:
    storages = torch.storage._dtype_to_storage_type_map()
    known = {
        name: f"torch.{STORAGES[name]}"
        for name in storages.values()
        if name in STORAGES
    }
    assert len(known) == len(STORAGES)
    assert known == {
        name: str(dtype) for dtype, name in storages.items() if name in known
    }


@pytest.mark.parametrize("name", STORAGES.values())
def test_every_type(tmp_path: Path, name: str) -> None:
    dtype = getattr(torch, name)
    path = tmp_path / "typed.pt"
    torch.save({"x": BYTES.view(dtype)}, path)
    with read_checkpoint(path) as checkpoint:
        ref = checkpoint.data["x"]
        assert (ref.dtype, ref.nbytes) == (name, 32)
        assert ITEMSIZES[name] == torch.empty(0, dtype=dtype).element_size()
        assert same(ref.load(), torch.load(path)["x"])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(0),
        torch.empty(0, 3)[:, 1:],
        torch.ones(()),
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)[1:, :, ::2],
        torch.ones(1).expand(1000, 1000),
        torch.nn.Parameter(torch.ones(2)),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
        torch.ones(2, requires_grad=True),
        torch.tensor([1 + 2j]),
    ],
    ids=lambda tensor: f"{type(tensor).__name__} {tuple(tensor.shape)}",
)
def test_kinds_of_tensors(tmp_path: Path, tensor: torch.Tensor) -> None:
    path = tmp_path / "kind.pt"
    torch.save([tensor], path)
    with read_checkpoint(path) as checkpoint:
        loaded = checkpoint.data[0].load()
    assert same(loaded, torch.load(path)[0])


def test_the_weights_of_a_lightning_checkpoint(lightning_file: Path) -> None:
    with read_checkpoint(lightning_file) as checkpoint:
        refs = checkpoint.data["state_dict"]
        weights = {name: ref.load() for name, ref in refs.items()}
    expected = torch.load(lightning_file, weights_only=False)["state_dict"]
    assert list(weights) == list(expected)
    assert all(same(weights[name], expected[name]) for name in expected)


def test_only_what_a_view_needs_is_loaded(tmp_path: Path) -> None:
    whole = torch.arange(100_000)
    torch.save([whole, whole[7:9]], tmp_path / "view.pt")
    with read_checkpoint(tmp_path / "view.pt") as checkpoint:
        view = checkpoint.data[1].load()
    assert view.tolist() == [7, 8]
    assert view.untyped_storage().nbytes() == 16


def test_what_is_loaded_is_ones_own(lightning_file: Path) -> None:
    with read_checkpoint(lightning_file) as checkpoint:
        ref = checkpoint.data["state_dict"]["2.weight"]
        ref.load().zero_()
        assert ref.load().any()


def test_extra_state_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "extra.pt"
    torch.save({"state_dict": {"a": torch.ones(1), "_extra_state": 5}}, path)
    with read_checkpoint(path) as checkpoint:
        assert checkpoint.data["state_dict"]["_extra_state"] == 5


def test_a_type_that_this_torch_does_not_have(
    lightning_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch, "float32")
    with (
        read_checkpoint(lightning_file) as checkpoint,
        pytest.raises(CompatError, match="type float32, which can't be loaded"),
    ):
        checkpoint.data["state_dict"]["2.weight"].load()


def test_sparse_tensors_stay_calls(tmp_path: Path) -> None:
    path = tmp_path / "calls.pt"
    torch.save([torch.eye(2).to_sparse()], path)
    with read_checkpoint(path) as checkpoint:
        (sparse,) = checkpoint.data
        assert sparse.cls.path == "torch._utils._rebuild_sparse_tensor"
        values = [ref.shape for ref in tensors(checkpoint.data).values()]
        assert values == [(2, 2), (2,)]
