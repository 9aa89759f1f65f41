import pytest
import torch

from pytest_nlam_compat.checkpoints.arrays import Array
from pytest_nlam_compat.checkpoints.known import owner
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.safetensors import parse, serialise
from pytest_nlam_compat.checkpoints.stand_ins import GlobalRef, TensorRef
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.errors import CompatError

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    *(torch.bool, torch.complex64, torch.complex128, torch.uint16),
]


def numbers(dtype):
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(3, 4, dtype=torch.float64).to(dtype)
    return torch.arange(12).reshape(3, 4).to(dtype)


def array(tensor):
    """Make an array of a tensor, not of a file."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    wide = tensor.float() if dtype == "bfloat16" else tensor
    return Array(wide.numpy(), dtype, dtype)


def header(entry, size):
    """Make a file of one tensor with 4 bytes, which says something else."""
    text = f'{{"t": {{"dtype": {entry}, "data_offsets": [0, {size}]}}}}'
    return len(text).to_bytes(8, "little") + text.encode() + bytes(4)


@pytest.fixture
def through(tmp_path):
    """Save with torch, change as arrays, write, and load with torch."""

    def through(tensor, change=lambda array: array):
        old, new = tmp_path / "old.pt", tmp_path / "new.pt"
        torch.save({"t": tensor}, old)
        with read_checkpoint(old) as checkpoint:
            array = Array.of(checkpoint.data["t"])
            checkpoint.data["t"] = change(array).stored()
            write_checkpoint(checkpoint, new, overwrite=True)
        return torch.load(new)["t"]

    return through


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_comes_back(through, dtype):
    tensor = numbers(dtype)
    found = through(tensor, Array.clone)
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t[1:, ::2],
        lambda t: t[0, 1],
        lambda t: t[:0],
        lambda t: t[0].expand(5, 4),
    ],
)
def test_views_are_read_as_they_are(through, view):
    tensor = view(torch.randn(3, 4))
    assert torch.equal(through(tensor, Array.clone), tensor)


def test_what_nothing_touches_is_never_read(tmp_path):
    file = tmp_path / "file.pt"
    torch.save(torch.randn(3), file)
    with read_checkpoint(file) as checkpoint:
        array = Array.of(checkpoint.data)
    # The file is closed: reading would be an error.
    same = array.double().at_home()
    assert same.stored() is checkpoint.data
    assert isinstance(array.stored(), TensorRef)
    assert array.double().stored() is not checkpoint.data
    with pytest.raises(CompatError, match="has been closed already"):
        array.double().values  # noqa: B018


def test_looking_is_no_change_and_setting_is(through):
    def look(array):
        assert len(array.tolist()) == 3
        assert isinstance(array.stored(), TensorRef)
        return array

    tensor = torch.randn(3)
    assert torch.equal(through(tensor, look), tensor)

    def set_one(array):
        array[1] = 5
        return array

    assert through(tensor, set_one)[1] == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_types_are_rounded_as_torch_rounds(through, dtype):
    tensor = torch.cat(
        (
            torch.randn(4000, dtype=torch.float64) * 3,
            torch.tensor([0.0, -0.0, 1e-42, float("inf"), float("nan")]),
        )
    ).to(dtype)

    def scaled(array):
        return (array.double() * 1.1).at_home()

    expected = (tensor.double() * 1.1).to(dtype)
    found = through(tensor, scaled)
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))


def test_a_type_without_arrays(tmp_path):
    file = tmp_path / "file.pt"
    torch.save(torch.ones(2).to(torch.float8_e5m2), file)
    with read_checkpoint(file) as checkpoint:
        array = Array.of(checkpoint.data)
        with pytest.raises(CompatError) as error:
            array.clone()
    assert str(error.value) == (
        "file.pt has a tensor of the type float8_e5m2, which can't be changed "
        "here.\n"
        f"  file: {file}\n"
        "  record: data/0\n"
        "Convert it to another type where it was written."
    )


class TestSafetensors:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_what_it_writes_the_library_reads(self, tmp_path, dtype):
        from safetensors.torch import load, save

        if dtype is torch.complex128:
            with pytest.raises(ValueError, match="safetensors has no complex"):
                serialise({"t": array(numbers(dtype))}, {})
            return
        tensor = numbers(dtype)
        content = serialise({"t": array(tensor)}, {"made by": "us"})
        assert torch.equal(load(content)["t"], tensor)
        tensors, metadata = parse(save({"t": tensor}, {"made by": "them"}))
        assert metadata == {"made by": "them"}
        assert tensors["t"].dtype == str(dtype).removeprefix("torch.")
        assert tensors["t"].tolist() == tensor.tolist()

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"\xff" * 8 + b"{}", "its header is cut short"),
            (b"\x02" + bytes(7) + b"[]", "its header is no table"),
            (header('"F99", "shape": [1]', 4), "t has the unknown type F99"),
            (
                header('"F32", "shape": [2]', 4),
                "t has not as many bytes as its shape says",
            ),
            (
                header('"F32", "shape": [1]', 9),
                "t reaches beyond the end of the file",
            ),
        ],
    )
    def test_what_is_none(self, content, what):
        with pytest.raises(ValueError, match=f"^{what}$"):
            parse(content)


def test_who_owns_a_class():
    assert owner(GlobalRef("argparse", "Namespace")) == "Python"
    assert (
        owner(GlobalRef("neural_lam.config", "TrainingConfig")) == "neural-lam"
    )
    assert owner(GlobalRef("torch", "FloatStorage")) == "torch"
    assert owner(GlobalRef("numpy._core.multiarray", "scalar")) == "numpy"
    assert (
        owner(GlobalRef("lightning_fabric.utilities.data", "AttributeDict"))
        == "Lightning"
    )
    for module, name in [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("numpy", "load"),
        ("neural_lam.train_model", "main"),
        ("functools", "partial"),
    ]:
        assert owner(GlobalRef(module, name)) is None
