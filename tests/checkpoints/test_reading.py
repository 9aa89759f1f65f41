"""Real files are read as torch reads them, without importing anything."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import json
import pathlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytest_nlam_compat.checkpoints.known import KNOWN
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import (
    GlobalRef,
    TensorRef,
)
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.upgrade.inspection import tensors


class Kind(str, enum.Enum):
    NPY = "npyfilesmeps"


@dataclasses.dataclass
class Selection:
    kind: Kind
    path: str

    class Nested:
        pass


class Slotted:
    __slots__ = ("left", "right")


def through_torch(tmp_path: Path, value: Any) -> Any:
    path = tmp_path / "value.pt"
    torch.save({"value": value}, path)
    with read_checkpoint(path) as checkpoint:
        return checkpoint.data["value"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        255,
        65536,
        -(2**31),
        10**100,
        1.5,
        "text",
        "\N{SNOWMAN}\ud800",
        b"",
        b"\x00\xff",
        (),
        (1, (2, 3), 4, 5),
        [1, [2]],
        {"a": {1: None}, None: 2.5, False: 1, 0.5: 2},
        {1, 2},
        frozenset({"a"}),
        list(range(2000)),
        {str(i): i for i in range(2000)},
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:10]!a}",
)
def test_plain_values_come_back_as_they_are(tmp_path: Path, value: Any) -> None:
    found = through_torch(tmp_path, value)
    assert found == value
    assert type(found) is type(value)


def test_a_namespace_is_a_stand_in_with_its_attributes(
    tmp_path: Path,
) -> None:
    found = through_torch(tmp_path, argparse.Namespace(a=1, b=[2]))
    assert found.cls == GlobalRef("argparse", "Namespace")
    assert not found.is_call
    assert found.attributes == {"a": 1, "b": [2]}


def test_a_config_of_dataclasses_and_enums(tmp_path: Path) -> None:
    found = through_torch(tmp_path, Selection(Kind.NPY, "data"))
    assert found.cls == GlobalRef(__name__, "Selection")
    kind = found.attributes["kind"]
    assert (kind.cls.name, kind.args) == ("Kind", ("npyfilesmeps",))
    assert kind.is_call


@pytest.mark.parametrize(
    "value",
    [Selection.Nested, 1 + 2j, bytearray(b"a"), range(3), np.arange(3)],
    ids=lambda value: str(type(value)),
)
def test_what_no_checkpoint_needs_is_an_unknown_call(
    tmp_path: Path, value: Any
) -> None:
    found = through_torch(tmp_path, value)
    assert found.is_call
    assert found.cls not in KNOWN


def test_objects_of_nested_classes(tmp_path: Path) -> None:
    with pytest.raises(CompatError, match=r"a call of a builtins\.getattr"):
        through_torch(tmp_path, Selection.Nested())


def test_slots(tmp_path: Path) -> None:
    slotted = Slotted()
    slotted.left, slotted.right = 1, 2
    found = through_torch(tmp_path, slotted)
    assert found.state == (None, {"left": 1, "right": 2})
    # Shown as what it is: no known class has slots.
    assert found.attributes == {}


def test_containers_that_are_objects_keep_their_items(tmp_path: Path) -> None:
    found = through_torch(tmp_path, collections.defaultdict(list, a=1))
    assert found.args == (GlobalRef("builtins", "list"),)
    assert found.dict_items == {"a": 1}
    assert through_torch(tmp_path, collections.Counter("aa")).args == (
        {"a": 2},
    )
    assert through_torch(tmp_path, pathlib.PurePosixPath("/a")).args == (
        "/",
        "a",
    )


def test_what_is_shared_stays_shared(tmp_path: Path) -> None:
    namespace = argparse.Namespace(a=1)
    first, second = through_torch(tmp_path, [namespace, namespace])
    assert first is second


def test_a_lightning_checkpoint(lightning_file: Path) -> None:
    expected = torch.load(lightning_file, weights_only=False)
    with read_checkpoint(lightning_file) as checkpoint:
        weights = checkpoint.data["state_dict"]
        assert list(weights) == list(expected["state_dict"])
        assert isinstance(weights, collections.OrderedDict)
        assert weights._metadata == expected["state_dict"]._metadata
        tied, whole = weights["tied"], weights["0.weight"]
        assert isinstance(tied, TensorRef)
        assert tied.storage is whole.storage
        assert (tied.shape, tied.stride, tied.offset) == ((3, 2), (3, 1), 3)
        assert (whole.dtype, whole.nbytes) == ("float32", 48)
        assert checkpoint.data["hyper_parameters"]["args"].state["lr"] == 1e-3
        assert [found.path for found in checkpoint.globals] == [
            "collections.OrderedDict",
            "torch._utils._rebuild_tensor_v2",
            "torch.FloatStorage",
            "argparse.Namespace",
        ]
        assert checkpoint.path == lightning_file
        found = tensors(checkpoint.data)
        moment = found["optimizer_states.0.state.0.exp_avg"]
        torch.testing.assert_close(
            moment.load(),
            expected["optimizer_states"][0]["state"][0]["exp_avg"],
            rtol=0,
            atol=0,
        )


def test_tensors_are_found_wherever_they_are(tmp_path: Path) -> None:
    shared = torch.ones(1)
    path = tmp_path / "tree.pt"
    value = argparse.Namespace(a=(shared, {1: [torch.ones(2)]}), b=shared)
    torch.save({"x": value}, path)
    with read_checkpoint(path) as checkpoint:
        found = tensors(checkpoint.data)
    assert list(found) == ["x.a.0", "x.a.1.1.0", "x.b"]
    assert found["x.a.0"] is found["x.b"]


WATCH = """
import json, sys
from pytest_nlam_compat.upgrade.inspection import tensors
from pytest_nlam_compat.checkpoints.known import KNOWN
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
seen = []
def hook(event, args):
    if event in ("import", "exec", "compile", "os.system", "subprocess.Popen"):
        seen.append([event, str(args[0])[:80]])
sys.addaudithook(hook)
with read_checkpoint(sys.argv[1]) as checkpoint:
    tensors(checkpoint.data)
    names = [name.path for name in checkpoint.globals]
print(json.dumps([seen, names, [
    name for name in ("torch", "numpy", "neural_lam", "argparse", "this")
    if name in sys.modules
]]))
"""


def test_nothing_is_imported_or_called(
    craft: Any, lightning_file: Path
) -> None:
    hostile = b"\x80\x02("
    names = ["os.system", "builtins.eval", "this.that", "torch.load"]
    for name in names:
        module, function = name.split(".")
        hostile += f"c{module}\n{function}\nX\4\0\0\0true\x85R".encode(
            "latin-1"
        )
    hostile += b"cneural_lam.config\nDatastoreKindStr\nX\1\0\0\0a\x85\x81t."
    seen, found, modules = _watched(craft(hostile))
    assert found == [*names, "neural_lam.config.DatastoreKindStr"]
    assert (seen, modules) == ([], [])
    seen, found, modules = _watched(lightning_file)
    assert found[-1] == "argparse.Namespace"
    assert (seen, modules) == ([], [])


def _watched(path: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_tensors_of_a_large_file_are_not_read(tmp_path: Path) -> None:
    # The records are holes: reading one would fail at its checksum.
    path = tmp_path / "large.pt"
    torch.save({"a": torch.ones(100_000), "b": torch.ones(3)}, path)
    content = bytearray(path.read_bytes())
    start = content.index(torch.ones(1000).numpy().tobytes())
    content[start : start + 400_000] = bytes(400_000)
    path.write_bytes(content)
    with read_checkpoint(path) as checkpoint:
        assert checkpoint.data["a"].shape == (100_000,)
        assert checkpoint.data["b"].load().tolist() == [1, 1, 1]
        with pytest.raises(CompatError, match="does not have its checksum"):
            checkpoint.data["a"].load()
        with pytest.raises(CompatError, match="does not have its checksum"):
            checkpoint.archive.verify()


def test_python_2_names_become_those_of_python_3(craft: Any) -> None:
    path = craft(b"\x80\x02c__builtin__\neval\n.")
    with read_checkpoint(path) as checkpoint:
        assert checkpoint.data == GlobalRef("builtins", "eval")


@pytest.mark.slow
def test_a_hundred_thousand_small_tensors(tmp_path: Path) -> None:
    path = tmp_path / "many.pt"
    torch.save([torch.tensor([float(i)]) for i in range(100_000)], path)
    with read_checkpoint(path) as checkpoint:
        assert len(checkpoint.data) == 100_000
        assert checkpoint.data[-1].load().tolist() == [99_999]
