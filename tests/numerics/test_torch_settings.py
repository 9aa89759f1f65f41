"""Building in float64, and switches that are put back."""

import io

import pytest
import torch
from torch import nn

from pytest_nlam_compat.numerics.torch_settings import (
    building,
    default_dtype,
    reproducible,
)

THIRD = 1 / 3  # no number of float32

# The ways in which neural-lam, or torch, ask for float32.
REQUESTS = {
    "tensor": lambda: torch.tensor([THIRD], dtype=torch.float32),
    "as_tensor": lambda: torch.as_tensor([THIRD], dtype=torch.float32),
    "full": lambda: torch.full((1,), THIRD, dtype=torch.float32),
    "to": lambda: torch.tensor([THIRD]).to(torch.float32),
    "to name": lambda: torch.tensor([THIRD]).to(dtype=torch.float32),
    "to device": lambda: torch.tensor([THIRD]).to("cpu", torch.float32),
    "type": lambda: torch.tensor([THIRD]).type(torch.float32),
    "float": lambda: torch.tensor([THIRD]).float(),
    "implicit": lambda: torch.tensor([THIRD]),
}


class Module(nn.Module):
    """Constants as neural-lam makes them, and a layer."""

    def __init__(self):
        super().__init__()
        mean = torch.tensor([THIRD], dtype=torch.float32)
        self.register_buffer("mean", mean, persistent=False)
        self.layer = nn.Linear(2, 3)


@pytest.mark.parametrize("name", REQUESTS)
def test_in_float64_each_request_for_float32_is_widened(name):
    with building(torch.float64):
        found = REQUESTS[name]()
    assert found.dtype is torch.float64
    assert found.item() == THIRD


@pytest.mark.parametrize("name", REQUESTS)
def test_in_float32_nothing_is(name):
    with building(torch.float32):
        found = REQUESTS[name]()
    assert found.dtype is torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_is_built_whole(dtype):
    with building(dtype):
        module = Module()
    tensors = [module.mean, *module.parameters()]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert module.mean.item() == torch.tensor(THIRD, dtype=dtype).item()


def test_integers_and_booleans_stay():
    with building(torch.float64):
        found = [torch.tensor([1]), torch.tensor([1.5]).to(torch.int32)]
        found += [torch.tensor([True]), torch.ones(1, dtype=torch.float16)]
    assert [tensor.dtype for tensor in found] == [
        torch.int64,
        torch.int32,
        torch.bool,
        torch.float16,
    ]


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_files_of_float32_are_loaded_as_they_are(weights_only, legacy):
    saved = {
        "weight": torch.linspace(0, THIRD, 7),
        "view": torch.linspace(0, 1, 12).reshape(3, 4).t(),
        "double": torch.full((2,), THIRD, dtype=torch.float64),
        "index": torch.arange(3),
        "parameter": nn.Parameter(torch.linspace(1, 2, 3)),
    }
    file = io.BytesIO()
    torch.save(saved, file, _use_new_zipfile_serialization=not legacy)
    file.seek(0)
    with building(torch.float64):
        loaded = torch.load(file, weights_only=weights_only)
    for name, tensor in saved.items():
        assert loaded[name].dtype is tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("block", [building, default_dtype])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_default_dtype_is_put_back(block, dtype):
    with block(dtype):
        assert torch.get_default_dtype() is dtype
    assert torch.get_default_dtype() is torch.float32
    with pytest.raises(ZeroDivisionError), block(dtype):
        raise ZeroDivisionError
    assert torch.get_default_dtype() is torch.float32
    assert torch.tensor(THIRD, dtype=torch.float32).dtype is torch.float32


def test_blocks_nest():
    with default_dtype(torch.float64):
        with building(torch.float32):
            assert torch.zeros(1).dtype is torch.float32
        assert torch.zeros(1).dtype is torch.float64


BACKENDS = torch.backends
SWITCHES = {
    "matmul": torch.get_float32_matmul_precision,
    "cudnn tf32": lambda: BACKENDS.cudnn.allow_tf32,
    "cudnn benchmark": lambda: BACKENDS.cudnn.benchmark,
    "deterministic": torch.are_deterministic_algorithms_enabled,
    "warn only": torch.is_deterministic_algorithms_warn_only_enabled,
    "threads": torch.get_num_threads,
}
# torch before 2.9 has none of these.
NEW = {
    name: place
    for name, place in {
        "all": BACKENDS,
        "cuda": BACKENDS.cuda.matmul,
        "cudnn": BACKENDS.cudnn,
        "conv": getattr(BACKENDS.cudnn, "conv", None),
        "mkldnn": getattr(BACKENDS.mkldnn, "matmul", None),
    }.items()
    if hasattr(place, "fp32_precision")
}


def state():
    """What there is to restore; torch refuses some answers in a mixture."""

    def answer(ask):
        try:
            return ask()
        except RuntimeError:
            return "refused"

    new = {name: place.fp32_precision for name, place in NEW.items()}
    return {name: answer(ask) for name, ask in SWITCHES.items()} | new


@pytest.fixture
def switches():
    """Put every switch back, whatever a test does to them."""
    threads = torch.get_num_threads()
    new = [(place, place.fp32_precision) for place in NEW.values()]
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    BACKENDS.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True
    for place, value in new:
        place.fp32_precision = value


def fast():
    """Set what a user does who wants speed."""
    torch.set_float32_matmul_precision("medium")
    BACKENDS.cudnn.allow_tf32 = True
    BACKENDS.cudnn.benchmark = True


def strict():
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.set_num_threads(2)


def cuda_only():
    BACKENDS.cuda.matmul.allow_tf32 = True


def new(name):
    return lambda: setattr(NEW[name], "fp32_precision", "tf32")


SETTINGS = {
    "none": lambda: None,
    "fast": fast,
    "strict": strict,
    "cuda only": cuda_only,
} | {f"new {name}": new(name) for name in NEW}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("error", [None, ZeroDivisionError])
@pytest.mark.usefixtures("switches")
def test_every_switch_is_turned_and_put_back(name, error):
    SETTINGS[name]()
    before = state()
    try:
        with reproducible():
            inside = state()
            if error:
                raise error
    except ZeroDivisionError:
        pass
    assert inside["matmul"] == "highest"
    assert inside["cudnn tf32"] in (False, "refused")
    assert inside["cudnn benchmark"] is False
    assert inside["deterministic"] is inside["warn only"] is True
    assert inside["threads"] == 1
    assert "tf32" not in [inside[place] for place in NEW]
    assert state() == before
