"""Files of safetensors as runs without hyper-parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations.stamps import STAMP
from pytest_nlam_compat.upgrade.inspection import tensors
from pytest_nlam_compat.upgrade.weights import (
    Weights,
    read_run,
    write_weights,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    tensors = {
        "a": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
        "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "empty": torch.zeros((0, 3), dtype=torch.int64),
        "large": torch.rand(100_000, dtype=torch.float64),
        "scalar": torch.tensor(7),
    }
    metadata = {"format": "pt", STAMP: json.dumps({"steps": ["x"]})}
    save_file(tensors, path, metadata)
    return path


def with_header(change: Callable[[dict[str, Any]], Any], file: Path) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    encoded = change(table)
    if not isinstance(encoded, bytes):
        encoded = json.dumps(table).encode()
    rest = content[8 + length :]
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + rest)


def test_its_tensors(file: Path) -> None:
    with read_run(file) as weights:
        found = {
            name: ref.load() for name, ref in weights.data["state_dict"].items()
        }
        assert {name: str(t.dtype)[6:] for name, t in found.items()} == {
            "a": "float64",
            "b": "bfloat16",
            "empty": "int64",
            "large": "float64",
            "scalar": "int64",
        }
        assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert found["b"].tolist() == [1.5, -2]
        assert found["empty"].shape == (0, 3)
        assert int(found["scalar"]) == 7
        assert weights.data[STAMP] == {"steps": ["x"]}


def test_they_are_written_as_they_were(file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    with read_run(file) as weights:
        assert isinstance(weights, Weights)
        write_weights(weights, new)
    before, after = load_file(file), load_file(new)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with safe_open(file, "pt") as old, safe_open(new, "pt") as written:
        assert old.metadata() == written.metadata()


def test_what_changed_is_written_as_it_is_now(
    file: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.safetensors"
    with read_run(file) as weights:
        assert isinstance(weights, Weights)
        table = weights.data["state_dict"]
        table["a"] = table["a"].load() * 2
        table["c"] = table.pop("b")
        weights.data[STAMP] = {"steps": ["x", "y"]}
        write_weights(weights, new)
    with read_run(new) as weights:
        found = {
            name: ref.load() for name, ref in weights.data["state_dict"].items()
        }
        assert set(found) == {"a", "empty", "large", "scalar", "c"}
        assert found["a"].tolist() == [[0, 2, 4], [6, 8, 10]]
        assert found["c"].tolist() == [1.5, -2]
        assert weights.data[STAMP] == {"steps": ["x", "y"]}


def test_a_file_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"w": torch.arange(4.0)}, path, {"format": "pt"})
    with read_run(path) as weights:
        assert isinstance(weights, Weights)
        assert weights.data["state_dict"]["w"].load().tolist() == [0, 1, 2, 3]
        write_weights(weights, tmp_path / "ours.safetensors")
    theirs = load_file(tmp_path / "ours.safetensors")
    assert theirs["w"].tolist() == [0, 1, 2, 3]


BROKEN = [
    (lambda t: t["a"].update(dtype="F128"), "its header makes no sense"),
    (lambda t: t["a"].update(shape=[2, 4]), "a is not where the one"),
    (
        lambda t: t["a"].update(shape=[-2, -3]),
        "its header has the number -2",
    ),
    (
        lambda t: t["a"].update(shape=[True, 6]),
        "the name or the shape of a makes",
    ),
    (lambda t: t["a"].update(shape=3), "its header makes no sense"),
    (lambda t: t["a"].update(data_offsets=[16, 64]), "is not where the one"),
    (lambda t: t["a"].update(data_offsets=[48, 0]), "a is not where the one"),
    (lambda t: t["a"].update(data_offsets=[0]), "a is not where"),
    (lambda t: t["b"].update(data_offsets=[44, 48]), "b is not where the one"),
    (lambda t: t.pop("b"), "do not end where the file ends"),
    (lambda t: t.update(a=3), "its header makes no sense"),
    (lambda t: t.update(__metadata__=[]), "its header makes no sense"),
    (
        lambda t: t.update(__metadata__={"a": 1}),
        "its metadata is not text",
    ),
    (
        lambda t: t.update({"x" * 5000: t.pop("a")}),
        "the name or the shape of xxx",
    ),
    (lambda _: b'{"a": 1, "a": 2}', "has a name twice"),
    (lambda _: b'{"a": ' + b"[" * 100_000, "is a damaged safetensors file"),
    (lambda _: b"{nonsense", "Expecting property name"),
    (lambda _: b'{"\xff": 1}', "can't decode byte"),
]


@pytest.mark.parametrize(("change", "what"), BROKEN)
def test_a_header_that_makes_no_sense(
    file: Path, change: Callable[[dict[str, Any]], Any], what: str
) -> None:
    with_header(change, file)
    with pytest.raises(CompatError) as caught:
        read_run(file)
    assert what in str(caught.value)
    assert str(caught.value).startswith("weights.safetensors is a damaged saf")


@pytest.mark.parametrize("share", [0.2, 0.9, 0.9999])
def test_a_file_that_was_cut_short(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CompatError, match="do not end where the file ends"):
        read_run(file)


def test_a_file_that_gets_shorter_while_it_is_read(
    file: Path, tmp_path: Path
) -> None:
    with read_run(file) as weights:
        assert isinstance(weights, Weights)
        file.write_bytes(file.read_bytes()[:5000])
        with pytest.raises(CompatError, match="became shorter"):
            write_weights(weights, tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == [file]


@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, 800), st.integers(0, 3), st.binary(max_size=4)
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(
    max_examples=200,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_headers(
    file: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    content = bytearray(file.read_bytes())
    for at, drop, put in edits:
        content[at : at + drop] = put
    mutated = file.with_name("mutated.safetensors")
    mutated.write_bytes(content)
    try:
        with read_run(mutated) as weights:
            for ref in tensors(weights.data).values():
                ref.load()
    except CompatError:
        pass
