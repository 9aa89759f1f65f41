"""Where models are run."""

import os

import pytest
import torch

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.numerics.torch_settings import choose_device


@pytest.fixture(autouse=True)
def workspace(monkeypatch):
    """Undo what is set for CUDA."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")


@pytest.fixture(params=[True, False], ids=["with CUDA", "without CUDA"])
def cuda(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    return request.param


def test_the_cpu_is_always_there(cuda):
    assert choose_device("cpu") == torch.device("cpu")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"


def test_auto_takes_what_there_is(cuda):
    assert choose_device("auto") == torch.device("cuda" if cuda else "cpu")


def test_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda") == torch.device("cuda")
    # What torch wants for deterministic matrix products.
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    # It would win over torch's own switches: all references would be red.
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_workspace_that_was_set_is_kept(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    choose_device("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(("built", "shown"), [(None, "no"), ("12.4", "12.4")])
def test_cuda_that_is_absent_is_an_error(monkeypatch, built, shown):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(CompatError) as raised:
        choose_device("cuda")
    assert str(raised.value) == (
        "CUDA is not available.\n"
        f"  torch: {torch.__version__}\n"
        f"  built for CUDA: {shown}\n"
        "  devices: 0\n"
        "Use --nlam-compat-device=cpu, or run it where torch finds a GPU."
    )
